//! Clients, and the sockets between them and the proxies.

use bytes::BytesMut;
use oxkeeper_wire::ConnectResponse;

use super::{Event, Wire, World};
use crate::client::Act;
use crate::history::Connection;
use crate::proxy::Moved;

impl World {
    pub(super) fn client_acts(&mut self, client: usize) {
        let now_us = self.now_us();
        let acts = self.clients[client].act(now_us, &mut self.history.connections);
        self.carry_out_acts(client, acts);
    }

    fn carry_out_acts(&mut self, client: usize, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Wait(wait_us) => self.schedule.after(wait_us, Event::Client(client)),
                Act::Disconnect => self.client_disconnects(client),
                Act::Send(bytes) => {
                    if let Some(connection) = self.clients[client].connection() {
                        self.send_to_proxy(connection, bytes);
                    }
                }
                Act::Connect { asked, frame } => {
                    let proxy = self.random.below(self.proxies.len() as u64) as usize;
                    let now_us = self.now_us();
                    let connection = self.history.connections.len();
                    self.say(format_args!(
                        "client {client} connects to proxy {proxy} as connection {connection}, session {:#x}",
                        asked.session
                    ));
                    self.counters.count("connections");
                    let opened = Connection::new(client, proxy, now_us, asked);
                    self.history.connections.push(opened);
                    let wire = Wire {
                        client,
                        proxy,
                        proxy_incarnation: self.proxies[proxy].incarnation,
                        to_proxy_us: 0,
                        to_client_us: 0,
                    };
                    self.wires.insert(connection, wire);
                    self.clients[client].on_connected(connection, now_us);
                    self.send_to_proxy(connection, frame);
                }
            }
        }
    }

    fn client_disconnects(&mut self, client: usize) {
        let Some(connection) = self.clients[client].connection() else {
            return;
        };
        self.say(format_args!(
            "client {client} drops connection {connection}"
        ));
        self.clients[client].on_closed();
        self.closed(connection);
        if let Some(at_us) = self.reaches_proxy_us(connection) {
            self.schedule.at(at_us, Event::ProxyHangsUp { connection });
        }
    }

    fn closed(&mut self, connection: usize) {
        let now_us = self.now_us();
        let closed_us = &mut self.history.connections[connection].closed_us;
        closed_us.get_or_insert(now_us);
    }

    /// When something that is sent now arrives, behind everything that was sent before.
    fn reaches_proxy_us(&mut self, connection: usize) -> Option<u64> {
        let at_us = self.now_us() + self.network_us();
        let wire = self.wires.get_mut(&connection)?;
        wire.to_proxy_us = at_us.max(wire.to_proxy_us + 1);
        Some(wire.to_proxy_us)
    }

    fn reaches_client_us(&mut self, connection: usize) -> Option<u64> {
        let at_us = self.now_us() + self.network_us();
        let wire = self.wires.get_mut(&connection)?;
        wire.to_client_us = at_us.max(wire.to_client_us + 1);
        Some(wire.to_client_us)
    }

    fn send_to_proxy(&mut self, connection: usize, bytes: BytesMut) {
        if let Some(at_us) = self.reaches_proxy_us(connection) {
            self.schedule
                .at(at_us, Event::ToProxy { connection, bytes });
        }
    }

    // ---- at the proxy

    pub(super) fn bytes_to_proxy(&mut self, connection: usize, bytes: &[u8]) {
        let now = self.now();
        let Some(wire) = self.wires.get(&connection) else {
            return;
        };
        let proxy = wire.proxy;
        let host = &mut self.proxies[proxy];
        let known = host.proxy.connections().any(|known| known == connection);
        // Without a link it accepts nobody; whom it knows may go on.
        if host.incarnation != wire.proxy_incarnation || !(known || host.proxy.serves()) {
            return self.refuse(connection);
        }
        if !known {
            if self.history.connections[connection].granted.is_some() {
                return;
            }
            host.proxy.accept(now, connection);
        }
        host.proxy.receive(connection, bytes);
        self.advance_proxy(proxy);
    }

    /// Nobody listens there.
    fn refuse(&mut self, connection: usize) {
        if let Some(at_us) = self.reaches_client_us(connection) {
            self.schedule.at(at_us, Event::ClientHangsUp { connection });
        }
    }

    pub(super) fn proxy_hung_up(&mut self, connection: usize) {
        let Some(wire) = self.wires.remove(&connection) else {
            return;
        };
        let host = &mut self.proxies[wire.proxy];
        if host.incarnation == wire.proxy_incarnation {
            host.proxy.hang_up(connection);
            self.advance_proxy(wire.proxy);
        }
    }

    /// Lets a proxy do what there is to do, and carries away what comes of it.
    pub(super) fn advance_proxy(&mut self, proxy: usize) {
        let now = self.now();
        let mut moved = Moved::default();
        self.proxies[proxy].proxy.advance(now, &mut moved);
        for (connection, mut bytes) in moved.to_clients {
            self.note_attachment(proxy, connection, &bytes);
            self.sabotage.on_bytes(&mut bytes);
            if let Some(at_us) = self.reaches_client_us(connection) {
                self.schedule
                    .at(at_us, Event::ToClient { connection, bytes });
            }
        }
        for connection in moved.closed {
            if let Some(at_us) = self.reaches_client_us(connection) {
                self.schedule.at(at_us, Event::ClientHangsUp { connection });
            }
        }
        self.send_to_shard(proxy, moved.requests);
    }

    /// The first that a proxy sends on a connection says which session it is attached to; the attachment's
    /// number is the newest that the proxy was told of.
    fn note_attachment(&mut self, proxy: usize, connection: usize, bytes: &[u8]) {
        let noted = &mut self.history.connections[connection].attachment;
        let response = bytes.get(4..).map(ConnectResponse::decode);
        if noted.is_none()
            && let Some(Ok(response)) = response
        {
            *noted = self.grants.get(&(proxy, response.session_id)).copied();
        }
    }

    // ---- at the client

    pub(super) fn bytes_to_client(&mut self, connection: usize, bytes: &[u8]) {
        let Some(client) = self.listening_client(connection) else {
            return;
        };
        let now_us = self.now_us();
        let before = self.history.connections[connection].received.len();
        let connections = &mut self.history.connections;
        let acts = self.clients[client].on_bytes(now_us, bytes, connections);
        if self.trace.is_on() {
            let received = self.history.connections[connection].received[before..].to_vec();
            for received in received {
                self.say(format_args!(
                    "connection {connection} hears {:?}",
                    received.what
                ));
            }
        }
        self.carry_out_acts(client, acts);
    }

    pub(super) fn client_hung_up(&mut self, connection: usize) {
        if let Some(client) = self.listening_client(connection) {
            self.say(format_args!(
                "connection {connection} is closed by its proxy"
            ));
            self.clients[client].on_closed();
            self.closed(connection);
        }
        self.wires.remove(&connection);
    }

    fn listening_client(&self, connection: usize) -> Option<usize> {
        let client = self.wires.get(&connection)?.client;
        (self.clients[client].connection() == Some(connection)).then_some(client)
    }
}
