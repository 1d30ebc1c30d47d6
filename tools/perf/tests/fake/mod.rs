//! A small ZooKeeper in memory, one thread per connection, that can be told to misbehave.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use oxkeeper_wire::client::XID_PING;
use oxkeeper_wire::limits::PACKET_BYTES_MAX;
use oxkeeper_wire::{
    BodyWriter, ConnectRequest, ConnectResponse, ErrorCode, EventType, MultiOp, OpCode, Request,
    Stat, decode_body, decode_header, next_frame, notification, reply,
};

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// getData returns one flipped bit.
    FlipData,
    /// A set is answered as done, but is not.
    ForgetSet,
    /// A reply carries the xid of another request.
    WrongXid,
    /// A create answers with another path.
    WrongPath,
    /// An event comes twice.
    DoubleEvent,
    /// An event does not come.
    DropEvent,
    /// Everything waits once.
    Stall(Duration),
    /// A connection is closed, after applying what was read but before answering.
    Cut,
    /// As `Cut`, and a write that was acknowledged is undone.
    CutAndUndo,
}

impl Fault {
    fn concerns(self, op: OpCode) -> bool {
        match self {
            Self::FlipData => op == OpCode::GET_DATA,
            Self::ForgetSet | Self::DoubleEvent | Self::DropEvent => op == OpCode::SET_DATA,
            Self::WrongPath => op == OpCode::CREATE,
            _ => true,
        }
    }
}

#[derive(Clone, Default)]
struct Node {
    data: Vec<u8>,
    stat: Stat,
}

/// Where events go, and whether the watch is persistent.
type Watcher = (Arc<Mutex<TcpStream>>, bool);

#[derive(Default)]
struct Tree {
    nodes: HashMap<String, Node>,
    zxid: i64,
    watchers: HashMap<String, Vec<Watcher>>,
    /// What the last two sets have replaced.
    replaced: Vec<(String, Node)>,
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    tree: Mutex<Tree>,
    fault: Fault,
    /// The operation at which the fault strikes.
    strike_at: u64,
    operations: AtomicU64,
    struck: AtomicBool,
    cuts: AtomicU64,
    sessions_opened: AtomicU64,
    sessions_closed: AtomicU64,
}

impl Fake {
    /// `strike_at` counts getData, setData and create outside of multis.
    pub(crate) fn start(fault: Fault, strike_at: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            tree: Mutex::default(),
            fault,
            strike_at,
            operations: AtomicU64::new(0),
            struck: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
            sessions_opened: AtomicU64::new(0),
            sessions_closed: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || serve(&shared, stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn znodes(&self) -> usize {
        self.shared.tree.lock().unwrap().nodes.len()
    }

    /// Sessions that were opened and not closed.
    pub(crate) fn sessions_left(&self) -> u64 {
        self.shared.sessions_opened.load(Ordering::SeqCst)
            - self.shared.sessions_closed.load(Ordering::SeqCst)
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let writer = Arc::new(Mutex::new(stream.try_clone().ok()?));
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let mut chunk = vec![0; 1 << 16];
    let mut connected = false;
    loop {
        let read = stream.read(&mut chunk).ok().filter(|&read| read > 0)?;
        input.extend_from_slice(&chunk[..read]);
        let mut closing = false;
        while let Some(length) = next_frame(&input, PACKET_BYTES_MAX).ok()?.map(<[u8]>::len) {
            input.advance(4);
            let frame = input.split_to(length);
            if connected {
                closing |= !shared.answer(&frame, &mut out, &writer);
            } else {
                connected = true;
                shared.welcome(&ConnectRequest::decode(&frame).ok()?, &mut out);
            }
        }
        if shared.cuts_now() {
            return stream.shutdown(std::net::Shutdown::Both).ok();
        }
        writer.lock().unwrap().write_all(&out).ok()?;
        out.clear();
        if closing {
            return stream.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

impl Shared {
    fn welcome(&self, request: &ConnectRequest, out: &mut BytesMut) {
        let session_id = match request.session_id {
            0 => 1 + self.sessions_opened.fetch_add(1, Ordering::SeqCst) as i64,
            known => known,
        };
        let timeout_ms = request.timeout_ms;
        ConnectResponse {
            timeout_ms,
            session_id,
            password: [7; 16],
            read_only: Some(false),
        }
        .encode(out);
    }

    /// Appends the reply. False: the session is closed.
    fn answer(&self, mut frame: &[u8], out: &mut BytesMut, writer: &Arc<Mutex<TcpStream>>) -> bool {
        let header = decode_header(&mut frame).unwrap();
        let request = decode_body(header.op, frame).unwrap();
        let counted = matches!(
            header.op,
            OpCode::GET_DATA | OpCode::SET_DATA | OpCode::CREATE | OpCode::MULTI
        );
        let number = if counted {
            self.operations.fetch_add(1, Ordering::SeqCst)
        } else {
            0
        };
        let strikes = counted
            && number >= self.strike_at
            && self.fault.concerns(header.op)
            && !self.struck.swap(true, Ordering::SeqCst);
        if let (Fault::Stall(time), true) = (self.fault, strikes) {
            thread::sleep(time);
        }
        let mut tree = self.tree.lock().unwrap();
        let mut xid = header.xid;
        if self.fault == Fault::WrongXid && strikes {
            xid += 1;
        }
        tree.execute(xid, &request, strikes.then_some(self.fault), out, writer);
        if request == Request::CloseSession {
            self.sessions_closed.fetch_add(1, Ordering::SeqCst);
        }
        request != Request::CloseSession
    }

    fn cuts_now(&self) -> bool {
        let cuts = matches!(self.fault, Fault::Cut | Fault::CutAndUndo);
        if !cuts || self.operations.load(Ordering::SeqCst) < self.strike_at {
            return false;
        }
        let first = self.cuts.fetch_add(1, Ordering::SeqCst) == 0;
        if first && self.fault == Fault::CutAndUndo {
            // The last one was not answered; only the one before is missed.
            self.tree.lock().unwrap().undo();
            self.tree.lock().unwrap().undo();
        }
        first
    }
}

impl Tree {
    fn execute(
        &mut self,
        xid: i32,
        request: &Request<'_>,
        fault: Option<Fault>,
        out: &mut BytesMut,
        writer: &Arc<Mutex<TcpStream>>,
    ) {
        match request {
            Request::Ping => reply(out, XID_PING, self.zxid, ErrorCode::OK, |_| {}),
            Request::GetData { path, watch } => {
                let path = path.as_deref().unwrap();
                if *watch {
                    self.watchers
                        .entry(path.to_owned())
                        .or_default()
                        .push((Arc::clone(writer), false));
                }
                self.get(xid, path, fault, out);
            }
            Request::AddWatch { path, .. } => {
                let path = path.as_deref().unwrap().to_owned();
                self.watchers
                    .entry(path)
                    .or_default()
                    .push((Arc::clone(writer), true));
                reply(out, xid, self.zxid, ErrorCode::OK, |body| body.int(0));
            }
            Request::Exists { path, .. } => match self.nodes.get(path.as_deref().unwrap()) {
                Some(node) => reply(out, xid, self.zxid, ErrorCode::OK, |body| {
                    body.stat(&node.stat)
                }),
                None => reply(out, xid, self.zxid, ErrorCode::NO_NODE, |_| {}),
            },
            Request::Multi(operations) => self.multi(xid, operations, out),
            Request::CloseSession => reply(out, xid, self.zxid, ErrorCode::OK, |_| {}),
            other => self.write(xid, other, fault, out),
        }
    }

    fn get(&self, xid: i32, path: &str, fault: Option<Fault>, out: &mut BytesMut) {
        let Some(node) = self.nodes.get(path) else {
            return reply(out, xid, self.zxid, ErrorCode::NO_NODE, |_| {});
        };
        let mut data = node.data.clone();
        if fault == Some(Fault::FlipData) {
            data[0] ^= 1;
        }
        reply(out, xid, self.zxid, ErrorCode::OK, |body| {
            body.buffer(Some(&data));
            body.stat(&node.stat);
        });
    }

    fn write(&mut self, xid: i32, request: &Request<'_>, fault: Option<Fault>, out: &mut BytesMut) {
        self.zxid += 1;
        let operation = match request.clone() {
            Request::Create(create) => MultiOp::Create(create),
            Request::SetData(set) => {
                let path = set.path.as_deref().unwrap();
                let replaced = self.nodes.get(path).cloned();
                self.replaced
                    .extend(replaced.map(|node| (path.to_owned(), node)));
                let superfluous = self.replaced.len().saturating_sub(2);
                self.replaced.drain(..superfluous);
                MultiOp::SetData(set)
            }
            Request::Delete(delete) => MultiOp::Delete(delete),
            other => panic!("{other:?}"),
        };
        match self.apply(&operation) {
            Err(code) => reply(out, xid, self.zxid, code, |_| {}),
            Ok(None) => reply(out, xid, self.zxid, ErrorCode::OK, |_| {}),
            Ok(Some((path, stat))) => {
                reply(out, xid, self.zxid, ErrorCode::OK, |body| match operation {
                    MultiOp::Create(_) if fault == Some(Fault::WrongPath) => {
                        body.text(Some("/other"))
                    }
                    MultiOp::Create(_) => body.text(Some(&path)),
                    _ => body.stat(&stat),
                });
                if fault == Some(Fault::ForgetSet) {
                    self.undo();
                }
                self.notify(&path, fault);
            }
        }
    }

    /// Takes the last set back.
    fn undo(&mut self) {
        if let Some((path, node)) = self.replaced.pop() {
            self.nodes.insert(path, node);
        }
    }

    /// All or nothing.
    fn multi(&mut self, xid: i32, operations: &[MultiOp<'_>], out: &mut BytesMut) {
        self.zxid += 1;
        let before = self.nodes.clone();
        let results: Vec<_> = operations
            .iter()
            .map(|operation| self.apply(operation))
            .collect();
        let failed = results.iter().position(Result::is_err);
        if failed.is_some() {
            self.nodes = before;
        }
        reply(out, xid, self.zxid, ErrorCode::OK, |body| {
            for (at, (operation, result)) in operations.iter().zip(&results).enumerate() {
                match failed {
                    Some(failed) if at < failed => body.multi_error(ErrorCode::OK),
                    Some(failed) if at > failed => {
                        body.multi_error(ErrorCode::RUNTIME_INCONSISTENCY)
                    }
                    _ => put_result(body, operation, result),
                }
            }
            body.multi_end();
        });
    }

    fn apply(&mut self, operation: &MultiOp<'_>) -> Result<Option<(String, Stat)>, ErrorCode> {
        match operation {
            MultiOp::Create(create) => {
                let path = create.path.as_deref().unwrap().to_owned();
                if self.nodes.contains_key(&path) {
                    return Err(ErrorCode::NODE_EXISTS);
                }
                let data = create.data.unwrap_or_default().to_vec();
                let (czxid, data_length) = (self.zxid, data.len() as i32);
                let stat = Stat {
                    czxid,
                    mzxid: czxid,
                    pzxid: czxid,
                    data_length,
                    ..Stat::default()
                };
                self.nodes.insert(path.clone(), Node { data, stat });
                Ok(Some((path, stat)))
            }
            MultiOp::SetData(set) => {
                let path = set.path.as_deref().unwrap();
                let node = self.nodes.get_mut(path).ok_or(ErrorCode::NO_NODE)?;
                node.data = set.data.unwrap_or_default().to_vec();
                node.stat.version += 1;
                node.stat.mzxid = self.zxid;
                Ok(Some((path.to_owned(), node.stat)))
            }
            MultiOp::Delete(delete) => {
                let node = self.nodes.remove(delete.path.as_deref().unwrap());
                node.map(|_| None).ok_or(ErrorCode::NO_NODE)
            }
            MultiOp::Check(_) => panic!("the generator sends no check"),
        }
    }

    fn notify(&mut self, path: &str, fault: Option<Fault>) {
        let Some(watchers) = self.watchers.get_mut(path) else {
            return;
        };
        let mut event = BytesMut::new();
        notification(&mut event, self.zxid, EventType::NodeDataChanged, path);
        if fault == Some(Fault::DoubleEvent) {
            notification(&mut event, self.zxid, EventType::NodeDataChanged, path);
        }
        for (nth, (writer, _)) in watchers.iter().enumerate() {
            if fault != Some(Fault::DropEvent) || nth > 0 {
                let _ = writer.lock().unwrap().write_all(&event);
            }
        }
        watchers.retain(|(_, persistent)| *persistent);
    }
}

fn put_result(
    body: &mut BodyWriter<'_>,
    operation: &MultiOp<'_>,
    result: &Result<Option<(String, Stat)>, ErrorCode>,
) {
    match (operation, result) {
        (MultiOp::Create(_), Ok(Some((path, stat)))) => {
            body.multi_created(OpCode::CREATE, path, stat)
        }
        (MultiOp::SetData(_), Ok(Some((_, stat)))) => body.multi_data_set(stat),
        (_, Ok(_)) => body.multi_done(operation.op()),
        (_, Err(code)) => body.multi_error(*code),
    }
}
