//! A proxy that stands before a real ZooKeeper and tells one lie: it makes the right server look
//! like a clone with one known bug. The comparison must find each of them; that is how it is
//! known to bite.
//!
//! It understands only as much of the protocol as its lies need, and passes on everything else,
//! broken frames included, byte for byte.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::jute::{JuteError, Reader, Writer};
use crate::proto::{err, event, op, xid};

/// A bug that some clone had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// None: everything is passed on.
    Honest,
    /// <https://github.com/ClickHouse/ClickHouse/pull/28197>
    EventBeforeTheReadThatSetIt,
    /// <https://github.com/ClickHouse/ClickHouse/pull/28190>
    ChildWatchTriggeredByData,
    /// <https://github.com/etcd-io/zetcd/issues/88>
    PzxidLeftAloneOnExpiry,
    /// <https://github.com/etcd-io/zetcd/pull/101>
    MultiErrorsWithoutMinus2,
    /// <https://github.com/ClickHouse/ClickHouse/pull/79247>
    WatchFiredByAFailedMulti,
    /// Sequence numbers taken from the cversion that clients see, which deletes move too.
    SequenceFromTheVisibleCversion,
    /// Error -118 on the old connection of a moved session, in place of closing it.
    MovedSessionAnswered,
    /// <https://github.com/ClickHouse/ClickHouse/issues/53749>
    HandshakeAlwaysOf37Bytes,
    /// <https://github.com/JDRaftKeeper/RaftKeeper/pull/400>
    SetWatchesWithoutChildWatches,
    /// <https://github.com/ClickHouse/ClickHouse/issues/116690>
    NewSessionForAWrongPassword,
}

/// How long a reply is held to see whether an event follows it.
const HOLD: Duration = Duration::from_millis(20);
const STAT_BYTES: usize = 68;
const REPLY_HEADER_BYTES: usize = 16;
const SESSION_MOVED: i32 = -118;
/// `jute.maxbuffer`: the server does not wait for the rest of a longer frame.
const FRAME_MAX_BYTES: usize = 0xf_ffff;
const QUEUE_FRAMES: usize = 1_024;

/// The proxy. It ends with the process.
#[derive(Debug)]
pub struct Liar {
    addr: SocketAddr,
}

impl Liar {
    /// Listens, and connects to `real` for each client.
    pub fn start(real: SocketAddr, lie: Lie) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let world = Arc::new(Mutex::new(World::default()));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let world = Arc::clone(&world);
                // A broken connection is the end of that connection, nothing more.
                std::thread::spawn(move || serve(client, real, lie, &world).ok());
            }
        });
        Ok(Self { addr })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// What all connections share.
#[derive(Debug, Default)]
struct World {
    /// Zxids of all answers to writes: a pzxid that is not among them came from an expiry.
    write_zxids: BTreeSet<i64>,
    /// Deletes below each parent.
    deletes: HashMap<String, u64>,
    /// Session id → its connection, to know who has moved.
    connections: HashMap<i64, Arc<Mutex<Link>>>,
}

#[derive(Debug, Clone)]
struct Asked {
    xid: i32,
    op: i32,
    path: String,
    watch: bool,
    sequential: bool,
}

/// What is known of one connection.
#[derive(Debug, Default)]
struct Link {
    asked: VecDeque<Asked>,
    child_watches: HashSet<String>,
    data_watches: HashSet<String>,
    /// The session is on another connection now.
    moved: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(
    mut client: TcpStream,
    real: SocketAddr,
    lie: Lie,
    world: &Mutex<World>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let request = read_frame(&mut client)?;
    let (mut server, mut response) = shake_hands(real, &request)?;
    let refused = response.get(4..8) == Some(&[0; 4]);
    if refused && lie == Lie::NewSessionForAWrongPassword && request.len() >= 24 {
        let mut anew = request.clone();
        anew[16..24].fill(0);
        (server, response) = shake_hands(real, &anew)?;
    }
    let link = Arc::new(Mutex::new(Link::default()));
    if let Some(id) = response.get(8..16) {
        let id = Reader::new(id).long().unwrap_or_default();
        let old = locked(world).connections.insert(id, Arc::clone(&link));
        if let Some(old) = old {
            locked(&old).moved = true;
        }
    }
    if lie == Lie::HandshakeAlwaysOf37Bytes && response.len() == 36 {
        response.push(0);
    }
    write_frame(&mut client, &response)?;
    let (upward, downward) = (client.try_clone()?, server.try_clone()?);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pass_requests(upward, server, lie, &link).ok();
        });
        pass_replies(downward, client, lie, &link, world)
    })
}

/// Connects to the real server. Without an answer to the handshake there is no connection.
fn shake_hands(real: SocketAddr, request: &[u8]) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut server = TcpStream::connect(real)?;
    server.set_nodelay(true)?;
    write_frame(&mut server, request)?;
    let response = read_frame(&mut server)?;
    Ok((server, response))
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = i32::from_be_bytes(length);
    let mut frame = vec![0; length.max(0) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let mut bytes = (frame.len() as i32).to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    stream.write_all(&bytes)
}

/// Client to server. Frames as long as there are frames; after that, bytes.
fn pass_requests(
    mut client: TcpStream,
    mut server: TcpStream,
    lie: Lie,
    link: &Mutex<Link>,
) -> io::Result<()> {
    let mut unread = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let n = client.read(&mut chunk).unwrap_or(0);
        if n == 0 {
            server.write_all(&unread)?;
            return server.shutdown(Shutdown::Write);
        }
        unread.extend_from_slice(&chunk[..n]);
        while unread.len() >= 4 {
            let length = i32::from_be_bytes([unread[0], unread[1], unread[2], unread[3]]);
            if length < 8 || length as usize > FRAME_MAX_BYTES {
                server.write_all(&unread)?;
                unread.clear();
                break;
            }
            let end = 4 + length as usize;
            if unread.len() < end {
                break;
            }
            let frame = request_frame(unread[4..end].to_vec(), lie, link);
            unread.drain(..end);
            let sent = write_frame(&mut server, &frame);
            if sent.is_err() || locked(link).moved {
                answer_moved(&mut client, lie, link, &frame)?;
            }
        }
    }
}

fn answer_moved(
    client: &mut TcpStream,
    lie: Lie,
    link: &Mutex<Link>,
    frame: &[u8],
) -> io::Result<()> {
    if lie != Lie::MovedSessionAnswered || !locked(link).moved {
        return Ok(());
    }
    let xid = Reader::new(frame).int().unwrap_or_default();
    let reply = Writer::new().int(xid).long(0).int(SESSION_MOVED).finish();
    write_frame(client, &reply)
}

/// Notes what is asked, and changes it where the lie is in the request.
fn request_frame(frame: Vec<u8>, lie: Lie, link: &Mutex<Link>) -> Vec<u8> {
    let Ok(asked) = read_asked(&frame) else {
        return frame;
    };
    let is_set_watches = matches!(asked.op, op::SET_WATCHES | op::SET_WATCHES2);
    locked(link).asked.push_back(asked);
    if lie == Lie::SetWatchesWithoutChildWatches && is_set_watches {
        return without_child_watches(&frame).unwrap_or(frame);
    }
    frame
}

fn read_asked(frame: &[u8]) -> Result<Asked, JuteError> {
    let mut r = Reader::new(frame);
    let (xid, op) = (r.int()?, r.int()?);
    if op == op::MULTI {
        // The header of its first operation.
        let (_, _, _) = (r.int(), r.bool(), r.int());
    }
    let path = r.string().ok().flatten().unwrap_or_default();
    let flags = frame.last_chunk::<4>().map(|b| i32::from_be_bytes(*b));
    Ok(Asked {
        xid,
        op,
        path,
        watch: r.bool().unwrap_or(false),
        sequential: matches!(op, op::CREATE | op::CREATE2) && matches!(flags, Some(2 | 3)),
    })
}

fn without_child_watches(frame: &[u8]) -> Result<Vec<u8>, JuteError> {
    let mut r = Reader::new(&frame[16..]);
    r.vector(Reader::string)?;
    r.vector(Reader::string)?;
    let before = frame.len() - r.remaining().len();
    r.vector(Reader::string)?;
    let mut changed = frame[..before].to_vec();
    changed.extend_from_slice(&[0; 4]);
    changed.extend_from_slice(r.remaining());
    Ok(changed)
}

/// Server to client.
fn pass_replies(
    mut server: TcpStream,
    mut client: TcpStream,
    lie: Lie,
    link: &Mutex<Link>,
    world: &Mutex<World>,
) -> io::Result<()> {
    let (send, frames) = mpsc::sync_channel(QUEUE_FRAMES);
    std::thread::spawn(move || {
        while let Ok(frame) = read_frame(&mut server) {
            if send.send(frame).is_err() {
                return;
            }
        }
    });
    while let Ok(frame) = frames.recv() {
        let mut frame = frame;
        let asked = take_asked(&frame, link);
        let sets_watch = asked.as_ref().is_some_and(|a| a.watch);
        if let Some(asked) = &asked {
            for extra in lies_about(lie, asked, &mut frame, link, world) {
                write_frame(&mut client, &extra)?;
            }
        } else {
            forget_fired(&frame, link);
        }
        if lie == Lie::EventBeforeTheReadThatSetIt && sets_watch {
            match frames.recv_timeout(HOLD) {
                Ok(next) => {
                    let is_event = next.starts_with(&xid::NOTIFICATION.to_be_bytes());
                    let (first, second) = if is_event {
                        (next, frame)
                    } else {
                        (frame, next)
                    };
                    if !is_event {
                        take_asked(&second, link);
                    }
                    write_frame(&mut client, &first)?;
                    write_frame(&mut client, &second)?;
                    continue;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
        write_frame(&mut client, &frame)?;
    }
    if lie == Lie::MovedSessionAnswered && locked(link).moved {
        return Ok(());
    }
    client.shutdown(Shutdown::Both)
}

fn take_asked(frame: &[u8], link: &Mutex<Link>) -> Option<Asked> {
    let xid = Reader::new(frame).int().ok()?;
    if xid == xid::NOTIFICATION {
        return None;
    }
    let asked = &mut locked(link).asked;
    // Answers to auth may overtake.
    let at = asked.iter().position(|a| a.xid == xid)?;
    asked.remove(at)
}

fn forget_fired(frame: &[u8], link: &Mutex<Link>) {
    let mut r = Reader::new(frame.get(REPLY_HEADER_BYTES + 8..).unwrap_or_default());
    if let Ok(Some(path)) = r.string() {
        let link = &mut *locked(link);
        link.child_watches.remove(&path);
        link.data_watches.remove(&path);
    }
}

/// Changes a reply as the lie has it; returns frames to send before it.
fn lies_about(
    lie: Lie,
    asked: &Asked,
    frame: &mut [u8],
    link: &Mutex<Link>,
    world: &Mutex<World>,
) -> Vec<Vec<u8>> {
    let mut r = Reader::new(frame);
    let (Ok(_), Ok(zxid), Ok(code)) = (r.int(), r.long(), r.int()) else {
        return Vec::new();
    };
    let mut extra = Vec::new();
    remember(asked, zxid, code, link, world);
    let parent = parent_of(&asked.path);
    match (lie, asked.op) {
        (Lie::ChildWatchTriggeredByData, op::SET_DATA)
            if code == err::OK && locked(link).child_watches.remove(&parent) =>
        {
            extra.push(event_frame(zxid, event::CHILDREN_CHANGED, &parent));
        }
        (Lie::WatchFiredByAFailedMulti, op::MULTI)
            if failed_multi(frame) && locked(link).data_watches.remove(&asked.path) =>
        {
            extra.push(event_frame(zxid, event::DATA_CHANGED, &asked.path));
        }
        (Lie::MultiErrorsWithoutMinus2, op::MULTI) if failed_multi(frame) => {
            for result in frame[REPLY_HEADER_BYTES..].chunks_exact_mut(13) {
                if result[9..13] == err::RUNTIME_INCONSISTENCY.to_be_bytes() {
                    result[5..13].fill(0);
                }
            }
        }
        (Lie::SequenceFromTheVisibleCversion, op::CREATE | op::CREATE2)
            if code == err::OK && asked.sequential =>
        {
            let deletes = locked(world).deletes.get(&parent).copied();
            raise_sequence(frame, deletes.unwrap_or_default());
        }
        (
            Lie::PzxidLeftAloneOnExpiry,
            op::EXISTS | op::GET_DATA | op::GET_CHILDREN2 | op::SET_DATA,
        ) if code == err::OK => leave_pzxid_alone(frame, world),
        _ => {}
    }
    extra
}

fn remember(asked: &Asked, zxid: i64, code: i32, link: &Mutex<Link>, world: &Mutex<World>) {
    let path = asked.path.clone();
    match asked.op {
        op::GET_CHILDREN | op::GET_CHILDREN2 if asked.watch && code == err::OK => {
            locked(link).child_watches.insert(path);
        }
        op::GET_DATA if asked.watch && code == err::OK => {
            locked(link).data_watches.insert(path);
        }
        op::EXISTS if asked.watch => {
            locked(link).data_watches.insert(path);
        }
        op::DELETE if code == err::OK => {
            *locked(world).deletes.entry(parent_of(&path)).or_default() += 1;
        }
        _ => {}
    }
    let is_read = matches!(
        asked.op,
        op::EXISTS | op::GET_DATA | op::GET_CHILDREN | op::GET_CHILDREN2 | op::SYNC | op::PING
    );
    if !is_read {
        locked(world).write_zxids.insert(zxid);
    }
}

fn parent_of(path: &str) -> String {
    match path.rfind('/') {
        Some(0) | None => "/".to_owned(),
        Some(at) => path[..at].to_owned(),
    }
}

fn event_frame(zxid: i64, kind: i32, path: &str) -> Vec<u8> {
    Writer::new()
        .int(xid::NOTIFICATION)
        .long(zxid)
        .int(0)
        .int(kind)
        .int(3)
        .string(Some(path))
        .finish()
}

/// True for a multi whose results are errors: type -1 in the first, and not the end marker.
fn failed_multi(frame: &[u8]) -> bool {
    frame.get(REPLY_HEADER_BYTES..REPLY_HEADER_BYTES + 5) == Some(&[0xff, 0xff, 0xff, 0xff, 0])
}

fn raise_sequence(frame: &mut [u8], by: u64) {
    let mut r = Reader::new(&frame[REPLY_HEADER_BYTES..]);
    let Ok(Some(path)) = r.string() else {
        return;
    };
    let end = REPLY_HEADER_BYTES + 4 + path.len();
    let digits = &mut frame[end - 10..end];
    let number: u64 = String::from_utf8_lossy(digits).parse().unwrap_or_default();
    digits.copy_from_slice(format!("{:010}", number + by).as_bytes());
}

fn leave_pzxid_alone(frame: &mut [u8], world: &Mutex<World>) {
    let Some(start) = frame.len().checked_sub(STAT_BYTES) else {
        return;
    };
    let pzxid_at = frame.len() - 8;
    let pzxid = Reader::new(&frame[pzxid_at..]).long().unwrap_or_default();
    let known = &locked(world).write_zxids;
    if pzxid > 0 && !known.contains(&pzxid) {
        frame.copy_within(start..start + 8, pzxid_at);
    }
}
