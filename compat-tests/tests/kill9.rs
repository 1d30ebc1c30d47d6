//! Kill -9 under load, again and again: what was acknowledged stands, nothing is applied twice,
//! no sequence number is given again, and sessions are still there for clients that come back.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxkeeper_compat_tests::bed::Bed;
use oxkeeper_compat_tests::conn::{Conn, DEADLINE};
use oxkeeper_compat_tests::proto::{Reply, Request, err, mode, op};
use oxkeeper_compat_tests::rng::Rng;
use oxkeeper_compat_tests::server::ServerOptions;
use oxkeeper_compat_tests::session::{
    Session, create_request, delete_request, eventually, set_request,
};

const ROUNDS: usize = 50;
const WORKERS: usize = 4;
/// Requests of a worker in flight at once.
const PIPELINE: usize = 16;
/// A server is killed within this time after its clients have begun.
const LOAD_MAX_MS: usize = 250;
/// Every so many rounds the next kill comes while the server still starts.
const KILL_IN_START_EVERY: usize = 7;

/// One write and what its client knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// setData of the worker's counter to this number, which is its version afterwards.
    Count(i64),
    /// A sequential node with this number as data.
    Add(u64),
    /// Deletion of the sequential node with this sequence number.
    Remove(u64),
}

/// A client with one session, and all that it may rely on.
struct Worker {
    root: String,
    session: Session,
    rng: Rng,
    /// Value of the counter after the last acknowledged set.
    count_known: i64,
    /// Value of the counter after the last set sent.
    count_sent: i64,
    next_data: u64,
    /// Sequence number → data of acknowledged nodes that were not deleted.
    nodes: BTreeMap<u64, u64>,
    /// Highest sequence number that was ever seen.
    highest: Option<u64>,
    /// Sent, not answered; the oldest first.
    open: Vec<Sent>,
    acknowledged: u64,
}

impl Worker {
    fn new(bed: &Bed, number: usize) -> Self {
        let root = bed.at(&format!("/w{number}"));
        // Long: a slow machine may take its time for a restart.
        let mut session = Session::open_with_timeout(bed.addr(), 60_000).unwrap();
        session.make(&root).unwrap();
        session.make(&format!("{root}/nodes")).unwrap();
        session.make(&format!("{root}/count")).unwrap();
        session
            .create(&format!("{root}/mine"), b"", mode::EPHEMERAL)
            .unwrap();
        Self {
            root,
            session,
            rng: Rng::new(number as u64),
            count_known: 0,
            count_sent: 0,
            next_data: 0,
            nodes: BTreeMap::new(),
            highest: None,
            open: Vec::new(),
            acknowledged: 0,
        }
    }

    /// Writes until the connection breaks or `stop` is set.
    fn load(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let mut requests = Vec::new();
            while self.open.len() < PIPELINE {
                let sent = self.choose();
                requests.push(self.request(sent));
                self.open.push(sent);
            }
            if self.session.send(&requests).is_err() {
                return;
            }
            // Half of them, so that the pipeline never runs empty.
            for _ in 0..PIPELINE / 2 {
                match self.session.receive_reply() {
                    Ok((header, reply)) => self.acknowledge(header.err, &reply),
                    Err(_) => return,
                }
            }
        }
        while !self.open.is_empty() {
            match self.session.receive_reply() {
                Ok((header, reply)) => self.acknowledge(header.err, &reply),
                Err(_) => return,
            }
        }
    }

    fn choose(&mut self) -> Sent {
        match self.rng.below(10) {
            0..4 => {
                self.count_sent += 1;
                Sent::Count(self.count_sent)
            }
            4..8 => {
                self.next_data += 1;
                Sent::Add(self.next_data)
            }
            _ => {
                let being_removed = |n: &u64| self.open.contains(&Sent::Remove(*n));
                match self.nodes.keys().find(|n| !being_removed(n)) {
                    Some(number) => Sent::Remove(*number),
                    None => {
                        self.next_data += 1;
                        Sent::Add(self.next_data)
                    }
                }
            }
        }
    }

    fn request(&self, sent: Sent) -> Request {
        match sent {
            Sent::Count(n) => {
                let path = format!("{}/count", self.root);
                set_request(&path, n.to_string().as_bytes(), -1)
            }
            Sent::Add(n) => {
                let path = format!("{}/nodes/n-", self.root);
                let data = n.to_string();
                create_request(
                    op::CREATE,
                    &path,
                    data.as_bytes(),
                    mode::PERSISTENT_SEQUENTIAL,
                )
            }
            Sent::Remove(n) => delete_request(&self.node_path(n), 0),
        }
    }

    fn node_path(&self, number: u64) -> String {
        format!("{}/nodes/n-{number:010}", self.root)
    }

    fn acknowledge(&mut self, code: i32, reply: &Reply) {
        let sent = self.open.remove(0);
        assert_eq!(code, err::OK, "{}: {sent:?}", self.root);
        self.acknowledged += 1;
        match (sent, reply) {
            (Sent::Count(n), Reply::Stat(stat)) => {
                assert_eq!(
                    i64::from(stat.version),
                    n,
                    "{}: applied twice or lost",
                    self.root
                );
                self.count_known = n;
            }
            (Sent::Add(data), Reply::Path(Some(path))) => {
                let number = sequence_number(path);
                self.saw_new_number(number);
                self.nodes.insert(number, data);
            }
            (Sent::Remove(number), Reply::Empty) => {
                self.nodes.remove(&number);
            }
            (sent, reply) => panic!("{sent:?} answered with {reply:?}"),
        }
    }

    fn saw_new_number(&mut self, number: u64) {
        assert!(
            Some(number) > self.highest,
            "{}: sequence number {number} after {:?}",
            self.root,
            self.highest
        );
        self.highest = Some(number);
    }

    /// Comes back with its session, and finds out what became of what was not answered.
    fn come_back(&mut self, addr: SocketAddr) {
        self.session = reattach(&self.session, addr);
        let mine = format!("{}/mine", self.root);
        assert_eq!(
            self.session.stat(&mine).unwrap().ephemeral_owner,
            self.session.id
        );
        self.resolve_count();
        self.resolve_nodes();
        self.open.clear();
    }

    fn resolve_count(&mut self) {
        let (data, stat) = self
            .session
            .get(&format!("{}/count", self.root), false)
            .unwrap();
        let text = String::from_utf8(data.unwrap()).unwrap();
        let value = text.parse::<i64>().unwrap_or(0);
        let at = &self.root;
        assert_eq!(
            i64::from(stat.version),
            value,
            "{at}: a set was lost or applied twice"
        );
        assert!(
            value >= self.count_known,
            "{at}: lost {} → {value}",
            self.count_known
        );
        assert!(value <= self.count_sent, "{at}: {value} was never sent");
        self.count_known = value;
        self.count_sent = value;
    }

    fn resolve_nodes(&mut self) {
        let parent = format!("{}/nodes", self.root);
        let (names, stat) = self.session.children(&parent, false).unwrap();
        let created_ever = (stat.cversion + stat.num_children) / 2;
        let mut unanswered_adds: Vec<u64> = Vec::new();
        let mut unanswered_removes: Vec<u64> = Vec::new();
        for sent in &self.open {
            match sent {
                Sent::Add(data) => unanswered_adds.push(*data),
                Sent::Remove(number) => unanswered_removes.push(*number),
                Sent::Count(_) => {}
            }
        }
        let mut found = BTreeMap::new();
        for name in &names {
            let number = sequence_number(name);
            let data = self.data_of(number);
            if self.nodes.get(&number) == Some(&data) {
                found.insert(number, data);
                continue;
            }
            // Not acknowledged: one of those in flight, in the order in which they were sent.
            let at = unanswered_adds.iter().position(|d| *d == data);
            let at = at.unwrap_or_else(|| panic!("{name} with {data}: twice, or never sent"));
            unanswered_adds.drain(..=at);
            self.saw_new_number(number);
            found.insert(number, data);
        }
        for number in self.nodes.keys() {
            let gone = !found.contains_key(number);
            let may_be_gone = unanswered_removes.contains(number);
            assert!(!gone || may_be_gone, "{parent}: lost node {number}");
        }
        let highest = self.highest.map_or(0, |h| h + 1);
        assert_eq!(
            created_ever as u64, highest,
            "{parent}: numbers without nodes"
        );
        assert_eq!(stat.num_children as usize, names.len());
        self.nodes = found;
    }

    fn data_of(&mut self, number: u64) -> u64 {
        let (data, stat) = self.session.get(&self.node_path(number), false).unwrap();
        assert_eq!(stat.version, 0);
        String::from_utf8(data.unwrap()).unwrap().parse().unwrap()
    }
}

fn sequence_number(path: &str) -> u64 {
    path[path.len() - 10..].parse().unwrap()
}

fn reattach(session: &Session, addr: SocketAddr) -> Session {
    let mut back = None;
    eventually("the server takes the session back", || {
        // A server that has just begun may refuse to talk; it must not say "expired".
        let Ok(mut conn) = Conn::open(addr) else {
            return false;
        };
        let Ok(response) = conn.handshake(&session.reattach_request()) else {
            return false;
        };
        assert!(!response.is_expired(), "session {:#x} is lost", session.id);
        assert_eq!(response.session_id, session.id);
        back = Some(Session::from_handshake(conn, response).unwrap());
        true
    });
    let mut back = back.unwrap();
    back.last_zxid = session.last_zxid;
    back
}

fn rounds() -> usize {
    let asked = std::env::var("OXKEEPER_KILL_ROUNDS").ok();
    asked.map_or(ROUNDS, |n| n.parse().unwrap())
}

#[test]
fn acknowledged_writes_sequence_numbers_and_sessions_survive_kill_9_under_load() {
    let Some(mut bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    let addr = bed.addr();
    let mut rng = Rng::new(99);
    let mut workers: Vec<Worker> = (0..WORKERS).map(|i| Worker::new(&bed, i)).collect();
    for round in 0..rounds() {
        let stop = Arc::new(AtomicBool::new(false));
        let loads: Vec<_> = workers
            .into_iter()
            .map(|mut worker| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    worker.load(&stop);
                    worker
                })
            })
            .collect();
        // Not a synchronisation: the moment of the kill is meant to be any.
        std::thread::sleep(Duration::from_millis(rng.below(LOAD_MAX_MS) as u64));
        bed.server.kill9().unwrap();
        stop.store(true, Ordering::Relaxed);
        workers = loads.into_iter().map(|l| l.join().unwrap()).collect();
        bed.server.restart().unwrap();
        if round % KILL_IN_START_EVERY == 0 {
            bed.server.kill9().unwrap();
            bed.server.restart().unwrap();
        }
        for worker in &mut workers {
            worker.come_back(addr);
        }
    }
    let acknowledged: u64 = workers.iter().map(|w| w.acknowledged).sum();
    eprintln!("{acknowledged} acknowledged writes over {} kills", rounds());
    assert!(acknowledged > 0);
    for worker in workers {
        worker.session.close().unwrap();
    }
}

#[test]
fn a_session_whose_client_does_not_come_back_after_a_crash_still_expires() {
    let Some(mut bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    let path = bed.at("/of-the-lost-one");
    let mut lost = Session::open_with_timeout(bed.addr(), 2_000).unwrap();
    lost.create(&path, b"", mode::EPHEMERAL).unwrap();
    bed.server.kill9().unwrap();
    bed.server.restart().unwrap();
    let mut s = bed.session();
    eventually("the session expires", || {
        s.exists(&path, false).unwrap().is_none()
    });
    let mut conn = Conn::open(bed.addr()).unwrap();
    let response = conn.handshake(&lost.reattach_request()).unwrap();
    assert!(response.is_expired());
    conn.expect_close(DEADLINE).unwrap();
}

#[test]
fn zxids_go_on_after_a_crash_where_they_were() {
    let Some(mut bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    let mut highest = 0;
    for round in 0..5 {
        let mut s = bed.session();
        for i in 0..20 {
            s.make(&bed.at(&format!("/n{round}-{i}"))).unwrap();
            assert!(s.last_zxid > highest);
            highest = s.last_zxid;
        }
        bed.server.kill9().unwrap();
        bed.server.restart().unwrap();
    }
}
