//! Runs a plan on one server and writes down what came back.

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::normal::{Line, Names, read_line};
use super::plan::{Broken, Call, Claim, Handshake, NewPassword, Plan, SLOTS, Step, WatchLists};
use crate::conn::{Conn, ConnError, ConnectRequest, ConnectResponse, DEADLINE};
use crate::proto::{Request, mode};
use crate::server::SUPER_CREDENTIALS;
use crate::session::{CallError, Session, create_request};

/// Everything that plans create lies below, or beside, this node; all of it goes at the end.
pub(super) const ROOT: &str = "/d";
/// Nodes that are older than any plan and stay.
const LASTING: [&str; 4] = ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"];
/// xids of the syncs that end a step; plans use none of them.
const BARRIER_XID: i32 = 1_000_000_000;
/// A zxid that no server reaches in a test.
const FAR_FUTURE_ZXIDS: i64 = 1 << 40;
/// How long to wait for what should come at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same, once a server has been silent: the plan has diverged, only its end is awaited.
const PATIENCE_LOST: Duration = Duration::from_secs(1);

/// What happened, step by step, in normal form.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    pub steps: Vec<Vec<String>>,
}

/// Id and password of a session that a server gave out.
#[derive(Debug, Clone)]
struct Credentials {
    id: i64,
    passwd: Vec<u8>,
}

/// How far to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The reply to a sync that is sent now.
    Sync,
    /// The end of the stream, which the server must bring about.
    Closed,
}

#[derive(Debug, Default)]
struct Slot {
    conn: Option<Conn>,
    credentials: Option<Credentials>,
    generation: u32,
    last_zxid: i64,
    next_xid: i32,
    /// Requests without a reply, oldest first.
    unanswered: VecDeque<(i32, Request)>,
}

/// Runs all steps, then removes what they left, so that the next plan starts alike.
pub fn run_plan(plan: &Plan, addr: SocketAddr) -> Result<Transcript> {
    let mut runner = Runner::prepare(addr).context("before the plan")?;
    let mut transcript = Transcript::default();
    for step in &plan.steps {
        transcript.steps.push(runner.run(step)?);
    }
    runner.finish().context("after the plan")?;
    Ok(transcript)
}

struct Runner {
    addr: SocketAddr,
    /// Super user: prepares, watches for expiry, cleans up. Writes nothing during the plan.
    control: Session,
    names: Names,
    slots: Vec<Slot>,
    base_zxid: i64,
    /// Sessions that no slot owns any more; they are closed at the end, for a session that
    /// expired later would move zxids in the middle of another plan.
    orphans: Vec<Credentials>,
    barriers: i32,
    expiries: u32,
    patience: Duration,
}

impl Runner {
    fn prepare(addr: SocketAddr) -> Result<Self> {
        let mut control = Session::open_with_timeout(addr, 60_000)?;
        control.auth("digest", SUPER_CREDENTIALS.as_bytes())?;
        let root = create_request(crate::proto::op::CREATE, ROOT, b"", mode::PERSISTENT);
        let (header, _) = control.exchange(root)?;
        if header.err != 0 {
            bail!("{ROOT} cannot be created: error {}", header.err);
        }
        let mut lasting = HashMap::new();
        for path in LASTING {
            lasting.insert(path.to_owned(), control.stat(path)?);
        }
        let mut names = Names::new(header.zxid, lasting);
        names.name_session(control.id, "control".to_owned());
        Ok(Self {
            addr,
            control,
            names,
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            base_zxid: header.zxid,
            orphans: Vec::new(),
            barriers: 0,
            expiries: 0,
            patience: PATIENCE,
        })
    }

    fn run(&mut self, step: &Step) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        // Pings take no zxid, and keep the session alive through a silent server's pauses.
        self.control.ping()?;
        match step {
            Step::Connect {
                slot,
                handshake,
                password,
            } => self.connect(*slot, handshake, password, &mut lines)?,
            Step::Batch { slot, calls } => self.batch(*slot, calls, &mut lines),
            Step::Fatal { slot, call } => {
                self.batch(*slot, std::slice::from_ref(call), &mut lines);
            }
            Step::Drop { slot } => self.drop_connection(*slot),
            Step::Reattach {
                slot,
                handshake,
                claim,
            } => self.reattach(*slot, handshake, claim, &mut lines)?,
            Step::Expire { slot } => self.expire(*slot, &mut lines)?,
            Step::Broken { slot, broken } => self.broken(*slot, broken, &mut lines),
        }
        // The step's own session first: only then has everything happened that others see.
        let own = step.slot();
        let any_order = step.ends_a_session();
        if step.is_fatal() {
            self.drain(own, Until::Closed, any_order, &mut lines);
        } else {
            self.drain(own, Until::Sync, any_order, &mut lines);
        }
        for slot in (0..SLOTS).filter(|slot| *slot != own) {
            self.drain(slot, Until::Sync, any_order, &mut lines);
        }
        Ok(lines)
    }

    fn connect(
        &mut self,
        slot: usize,
        handshake: &Handshake,
        password: &NewPassword,
        lines: &mut Vec<String>,
    ) -> Result<()> {
        if self.slots[slot].conn.is_some() {
            lines.push("(connected already)".to_owned());
            return Ok(());
        }
        let passwd = match password {
            NewPassword::Null => None,
            NewPassword::Empty => Some(Vec::new()),
            NewPassword::Zeros => Some(vec![0; 16]),
            NewPassword::Long => Some(vec![7; 40]),
        };
        let request = ConnectRequest {
            last_zxid_seen: 0,
            timeout_ms: handshake.timeout_ms,
            session_id: 0,
            passwd,
            read_only: handshake.read_only,
        };
        self.orphans.extend(self.slots[slot].credentials.take());
        self.open(slot, &request, lines)
    }

    fn reattach(
        &mut self,
        slot: usize,
        handshake: &Handshake,
        claim: &Claim,
        lines: &mut Vec<String>,
    ) -> Result<()> {
        let Some(own) = self.slots[slot].credentials.clone() else {
            lines.push("(no session)".to_owned());
            return Ok(());
        };
        if self.slots[slot].conn.is_some() && *claim != Claim::Own {
            lines.push("(only while disconnected)".to_owned());
            return Ok(());
        }
        let mut request = ConnectRequest {
            last_zxid_seen: self.slots[slot].last_zxid,
            timeout_ms: handshake.timeout_ms,
            session_id: own.id,
            passwd: Some(own.passwd),
            read_only: handshake.read_only,
        };
        match claim {
            Claim::Own => {}
            Claim::FutureZxid => request.last_zxid_seen = self.base_zxid + FAR_FUTURE_ZXIDS,
            Claim::WrongPassword => request.passwd = Some(vec![0x5a; 16]),
            Claim::Stranger(id) => request.session_id = *id,
        }
        let old = self.slots[slot].conn.take();
        self.slots[slot].unanswered.clear();
        self.open(slot, &request, lines)?;
        if let Some(mut old) = old {
            let end = match old.read_to_end(self.patience) {
                Ok(bytes) if bytes.is_empty() => "old connection closed".to_owned(),
                Ok(bytes) => format!("old connection: {} more bytes", bytes.len()),
                Err(e) => {
                    self.patience = PATIENCE_LOST;
                    format!("old connection: {e}")
                }
            };
            lines.push(end);
        }
        Ok(())
    }

    /// Sends a handshake on a new connection and notes what comes.
    fn open(
        &mut self,
        slot: usize,
        request: &ConnectRequest,
        lines: &mut Vec<String>,
    ) -> Result<()> {
        let mut conn = Conn::open(self.addr)?;
        let response = match conn.handshake(request) {
            Ok(response) => response,
            Err(ConnError::Closed) => {
                lines.push("handshake: closed without an answer".to_owned());
                return Ok(());
            }
            Err(e) => {
                lines.push(format!("handshake: {e}"));
                return Ok(());
            }
        };
        self.note_handshake(slot, request, &response, lines);
        if response.is_expired() {
            let end = conn.expect_close(self.patience);
            lines.push(format!("after refusal: {end:?}"));
        } else {
            self.slots[slot].conn = Some(conn);
            self.slots[slot].next_xid = 1;
        }
        Ok(())
    }

    fn note_handshake(
        &mut self,
        slot: usize,
        request: &ConnectRequest,
        response: &ConnectResponse,
        lines: &mut Vec<String>,
    ) {
        let passwd = response.passwd.clone().unwrap_or_default();
        if !response.is_expired() && request.session_id == 0 {
            let generation = self.slots[slot].generation;
            self.slots[slot].generation += 1;
            self.slots[slot].credentials = Some(Credentials {
                id: response.session_id,
                passwd: passwd.clone(),
            });
            let name = format!("session {slot}.{generation}");
            self.names.name_session(response.session_id, name);
        }
        let secret = match &self.slots[slot].credentials {
            Some(own) if own.passwd == passwd => "own",
            _ if passwd.iter().all(|b| *b == 0) => "zeros",
            _ => "OTHER",
        };
        lines.push(format!(
            "handshake: version {} timeout {} {} passwd {} ({} bytes) read-only {:?}",
            response.protocol_version,
            response.timeout_ms,
            self.names.session(response.session_id),
            secret,
            passwd.len(),
            response.read_only
        ));
    }

    fn batch(&mut self, slot: usize, calls: &[Call], lines: &mut Vec<String>) {
        let last_zxid = self.slots[slot].last_zxid;
        let slot = &mut self.slots[slot];
        let Some(conn) = &mut slot.conn else {
            lines.push("(not connected)".to_owned());
            return;
        };
        let mut frames = Vec::with_capacity(calls.len());
        for call in calls {
            let (xid, request) = match call {
                Call::WithXid(xid, request) => (*xid, request.clone()),
                Call::Plain(request) => {
                    slot.next_xid += 1;
                    let xid = request.special_xid().unwrap_or(slot.next_xid);
                    (xid, request.clone())
                }
                Call::SetWatches(lists) => (
                    crate::proto::xid::SET_WATCHES,
                    set_watches(lists, last_zxid),
                ),
            };
            frames.push(request.encode(xid));
            slot.unanswered.push_back((xid, request));
        }
        // A server that closes while we send shows in what is read afterwards.
        let _ = conn.send_frames(&frames);
    }

    fn drop_connection(&mut self, slot: usize) {
        let slot = &mut self.slots[slot];
        slot.unanswered.clear();
        if let Some(conn) = slot.conn.take() {
            conn.shutdown(Shutdown::Both);
        }
    }

    fn broken(&mut self, slot: usize, broken: &Broken, lines: &mut Vec<String>) {
        let Some(conn) = &mut self.slots[slot].conn else {
            lines.push("(not connected)".to_owned());
            return;
        };
        // As in `batch`: a failed send shows in what is read.
        let _ = match broken {
            Broken::Length(length) => conn.send_bytes(&length.to_be_bytes()),
            Broken::Frame(frame) => conn.send_frame(frame),
            Broken::Bytes(bytes) => conn.send_bytes(bytes),
            Broken::CutOff { length, sent } => {
                let mut bytes = length.to_be_bytes().to_vec();
                bytes.resize(4 + sent, 0);
                let result = conn.send_bytes(&bytes);
                conn.shutdown(Shutdown::Write);
                result
            }
        };
    }

    /// Lets the slot's session expire, and waits until its last ephemeral is gone. The other
    /// sessions have asked for timeouts far longer than this takes.
    fn expire(&mut self, slot: usize, lines: &mut Vec<String>) -> Result<()> {
        self.drop_connection(slot);
        let shortest = Handshake {
            timeout_ms: 1,
            read_only: Some(false),
        };
        self.reattach(slot, &shortest, &Claim::Own, lines)?;
        if self.slots[slot].conn.is_none() {
            return Ok(());
        }
        self.expiries += 1;
        let marker = format!("{ROOT}/_expires{}", self.expiries);
        let create = create_request(crate::proto::op::CREATE, &marker, b"", mode::EPHEMERAL);
        self.batch(slot, &[Call::Plain(create)], lines);
        self.drain(slot, Until::Sync, false, lines);
        self.drop_connection(slot);
        let until = Instant::now() + DEADLINE;
        while self.control.exists(&marker, false)?.is_some() {
            if Instant::now() > until {
                lines.push("the session does not expire".to_owned());
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Notes everything up to the reply of a sync, or up to the close.
    fn drain(&mut self, slot: usize, until: Until, any_order: bool, lines: &mut Vec<String>) {
        let Some(conn) = &mut self.slots[slot].conn else {
            return;
        };
        let mut barrier = None;
        if until == Until::Sync {
            self.barriers += 1;
            let xid = BARRIER_XID + self.barriers;
            let sync = Request::Sync {
                path: Some("/".to_owned()),
            };
            // A server that has closed shows in what is read.
            let _ = conn.send_frame(&sync.encode(xid));
            self.slots[slot].unanswered.push_back((xid, sync));
            barrier = Some(xid);
        }
        let mut got = Vec::new();
        let end = self.read_until(slot, barrier, &mut got);
        let mut auths = Vec::new();
        let mut ordered = Vec::new();
        for line in got {
            match line {
                Line::Reply {
                    text, auth: true, ..
                } => auths.push(text),
                other => ordered.push(other),
            }
        }
        if any_order {
            sort_events_of_one_zxid(&mut ordered);
        }
        let texts = ordered.into_iter().map(|line| match line {
            Line::Event { text, .. } | Line::Reply { text, .. } => text,
        });
        lines.extend(
            texts
                .chain(auths)
                .map(|text| format!("slot {slot}: {text}")),
        );
        if let Err(e) = end {
            if matches!(e, ConnError::Timeout) {
                self.patience = PATIENCE_LOST;
            }
            let left = self.slots[slot].unanswered.len();
            lines.push(format!("slot {slot}: {e}, {left} requests unanswered"));
            self.drop_connection(slot);
        }
    }

    /// Reads until the reply to xid `last` is there, or for ever without one.
    fn read_until(
        &mut self,
        slot: usize,
        last: Option<i32>,
        got: &mut Vec<Line>,
    ) -> Result<(), ConnError> {
        loop {
            let Slot {
                conn, unanswered, ..
            } = &mut self.slots[slot];
            let conn = conn.as_mut().ok_or(ConnError::Closed)?;
            let frame = conn.read_frame(self.patience)?;
            let line = read_line(&mut self.names, &frame, |xid| take_due(unanswered, xid));
            let mut done = false;
            if let Line::Reply { header, .. } = &line {
                self.slots[slot].last_zxid = self.slots[slot].last_zxid.max(header.zxid);
                done = last == Some(header.xid);
            }
            got.push(line);
            if done {
                return Ok(());
            }
        }
    }

    /// Closes all sessions and deletes all nodes of the plan.
    fn finish(mut self) -> Result<()> {
        for slot in &mut self.slots {
            slot.conn = None;
            self.orphans.extend(slot.credentials.take());
        }
        for own in std::mem::take(&mut self.orphans) {
            close_session(self.addr, &own)?;
        }
        let names = self.control.children("/", false)?.0;
        for name in names.iter().filter(|name| *name != "zookeeper") {
            delete_tree(&mut self.control, &format!("/{name}"))?;
        }
        for name in self.control.children("/zookeeper", false)?.0 {
            let path = format!("/zookeeper/{name}");
            if !LASTING.contains(&path.as_str()) {
                delete_tree(&mut self.control, &path)?;
            }
        }
        self.control.set("/", b"", -1)?;
        self.control.close()?;
        Ok(())
    }
}

fn set_watches(lists: &WatchLists, last_zxid: i64) -> Request {
    Request::SetWatches {
        relative_zxid: last_zxid - lists.zxids_ago,
        data: lists.data.clone(),
        exist: lists.exist.clone(),
        child: lists.child.clone(),
        persistent: lists.persistent.clone(),
    }
}

/// The request that a reply with `xid` answers: the oldest one, except that auth may overtake.
fn take_due(unanswered: &mut VecDeque<(i32, Request)>, xid: i32) -> Option<Request> {
    let at = if xid == crate::proto::xid::AUTH {
        unanswered.iter().position(|(x, _)| *x == xid)?
    } else {
        unanswered
            .iter()
            .position(|(x, _)| *x != crate::proto::xid::AUTH)?
    };
    unanswered.remove(at).map(|(_, request)| request)
}

fn sort_events_of_one_zxid(lines: &mut [Line]) {
    let mut from = 0;
    while from < lines.len() {
        let Line::Event { zxid, .. } = &lines[from] else {
            from += 1;
            continue;
        };
        let zxid = *zxid;
        let run = lines[from..]
            .iter()
            .take_while(|l| matches!(l, Line::Event { zxid: z, .. } if *z == zxid))
            .count();
        lines[from..from + run].sort_by(|a, b| match (a, b) {
            (Line::Event { text: a, .. }, Line::Event { text: b, .. }) => a.cmp(b),
            _ => std::cmp::Ordering::Equal,
        });
        from += run;
    }
}

/// Ends a session that may have ended already.
fn close_session(addr: SocketAddr, own: &Credentials) -> Result<()> {
    let mut conn = Conn::open(addr)?;
    let response = conn.handshake(&ConnectRequest {
        last_zxid_seen: 0,
        timeout_ms: 30_000,
        session_id: own.id,
        passwd: Some(own.passwd.clone()),
        read_only: Some(false),
    })?;
    if !response.is_expired() {
        Session::from_handshake(conn, response)?.close()?;
    }
    Ok(())
}

fn delete_tree(control: &mut Session, path: &str) -> Result<()> {
    let children = match control.children(path, false) {
        Ok((names, _)) => names,
        // Gone with its session.
        Err(CallError::Code(crate::proto::err::NO_NODE)) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    for name in children {
        delete_tree(control, &format!("{path}/{name}"))?;
    }
    match control.delete(path, -1) {
        Ok(()) | Err(CallError::Code(crate::proto::err::NO_NODE)) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("delete {path}")),
    }
}
