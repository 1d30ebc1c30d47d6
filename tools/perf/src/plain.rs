//! A blocking client with a window of requests in flight, for setting up and cleaning up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use oxkeeper_wire::client::{Reply, decode_reply, encode_request};
use oxkeeper_wire::limits::PACKET_BYTES_CEILING;
use oxkeeper_wire::{ConnectRequest, ConnectResponse, Request, next_frame};

use crate::PerfError;

const IO_TIMEOUT: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 * 1024;

pub(crate) struct PlainClient {
    stream: TcpStream,
    out: BytesMut,
    input: BytesMut,
    sent_xid: i32,
    received_xid: i32,
}

impl PlainClient {
    /// Connects to the first server that gives a session.
    pub(crate) fn connect(servers: &[SocketAddr], timeout_ms: i32) -> Result<Self, PerfError> {
        let mut last = PerfError::Options("no server given".to_owned());
        for server in servers {
            match Self::connect_to(*server, timeout_ms) {
                Ok(client) => return Ok(client),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    fn connect_to(server: SocketAddr, timeout_ms: i32) -> Result<Self, PerfError> {
        let stream = TcpStream::connect_timeout(&server, IO_TIMEOUT)
            .map_err(|fault| PerfError::Connect { server, fault })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        let (out, input) = (BytesMut::new(), BytesMut::new());
        let mut client = Self {
            stream,
            out,
            input,
            sent_xid: 0,
            received_xid: 0,
        };
        let handshake = ConnectRequest {
            timeout_ms,
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        handshake.encode(&mut client.out);
        client.flush()?;
        let frame = client.frame()?;
        match ConnectResponse::decode(&frame) {
            Ok(response) if response.timeout_ms > 0 => Ok(client),
            other => Err(PerfError::Protocol(format!("handshake: {other:?}"))),
        }
    }

    /// Puts a request into the output.
    pub(crate) fn send(&mut self, request: &Request<'_>) {
        self.sent_xid += 1;
        encode_request(&mut self.out, self.sent_xid, request);
    }

    pub(crate) fn flush(&mut self) -> Result<(), PerfError> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Reads the reply to the oldest unanswered request.
    pub(crate) fn receive<T>(
        &mut self,
        read: impl FnOnce(&Reply<'_>) -> T,
    ) -> Result<T, PerfError> {
        let frame = self.frame()?;
        let reply =
            decode_reply(&frame).map_err(|fault| PerfError::Protocol(format!("reply: {fault}")))?;
        self.received_xid += 1;
        if reply.xid != self.received_xid {
            return Err(PerfError::Protocol(format!(
                "reply to xid {}, not {}",
                reply.xid, self.received_xid
            )));
        }
        Ok(read(&reply))
    }

    pub(crate) fn call<T>(
        &mut self,
        request: &Request<'_>,
        read: impl FnOnce(&Reply<'_>) -> T,
    ) -> Result<T, PerfError> {
        self.send(request);
        self.flush()?;
        self.receive(read)
    }

    fn frame(&mut self) -> Result<BytesMut, PerfError> {
        loop {
            let next = next_frame(&self.input, PACKET_BYTES_CEILING)
                .map_err(|fault| PerfError::Protocol(fault.to_string()))?;
            if let Some(length) = next.map(<[u8]>::len) {
                self.input.advance(4);
                return Ok(self.input.split_to(length));
            }
            let filled = self.input.len();
            self.input.resize(filled + READ_BYTES, 0);
            let read = self.stream.read(&mut self.input[filled..]);
            self.input
                .truncate(filled + read.as_ref().map_or(0, |read| *read));
            if read? == 0 {
                return Err(PerfError::Protocol(
                    "the server closed the connection".to_owned(),
                ));
            }
        }
    }
}
