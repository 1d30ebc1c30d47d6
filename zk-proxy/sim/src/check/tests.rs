//! Each checker accepts a right history, and finds what is its own in a wrong one.

use oxkeeper_model::{Create as ModelCreate, Lifetime, TreeOp};
use oxkeeper_wire::OpCode;

use super::*;
use crate::history::{Asked, Gap, Granted, Incoming, Received, Sent};
use crate::logged::{Logged, LoggedEntry, Place};
use crate::op::{Ace, Create, Op, WatchLists};
use crate::reply::{Body, Notification, Reply};

const SESSION: i64 = 1 << 48;
const OTHER: i64 = SESSION + 1;

/// One or two clients' history, written as it would have come about, and the log behind it.
struct Scene {
    history: History,
    entries: Vec<LoggedEntry>,
    seqs: [u64; 2],
    now_us: u64,
}

impl Scene {
    /// Two sessions are open: zxids 1 and 2.
    fn new() -> Self {
        let mut scene = Self {
            history: History::default(),
            entries: Vec::new(),
            seqs: [0; 2],
            now_us: 0,
        };
        for client in 0..2 {
            let mut connection = Connection::new(client, 0, 0, Asked::default());
            connection.attachment = Some(1);
            connection.granted = Some(Granted {
                at_us: 0,
                session: SESSION + client as i64,
                password: vec![client as u8; 16],
                timeout_ms: 4_000,
            });
            scene.history.connections.push(connection);
            scene.log(Logged::Open {
                nonce: client as u64,
            });
        }
        scene
    }

    fn log(&mut self, command: Logged) {
        let offset = self.entries.len() as u64 + 1;
        self.entries.push(LoggedEntry {
            offset,
            wall_ms: 5_000 + offset as i64,
            elapsed_ms: 10 * offset,
            commands: vec![command],
        });
    }

    /// Sends a request; its index.
    fn send(&mut self, client: usize, op: Op) -> usize {
        self.now_us += 10;
        let sent = &mut self.history.connections[client].sent;
        let xid = sent.len() as i32 + 1;
        sent.push(Sent {
            at_us: self.now_us,
            xid,
            op,
        });
        sent.len() - 1
    }

    /// Sends a write, and logs it.
    fn write(&mut self, client: usize, op: Op) -> usize {
        self.seqs[client] += 1;
        let seq = self.seqs[client];
        let place = Place {
            session: SESSION + client as i64,
            attachment: 1,
            seq,
            follows: seq - 1,
        };
        self.log(match op {
            Op::CloseSession => Logged::Close(place),
            _ => Logged::Write {
                place,
                ops: vec![logged(&op)],
            },
        });
        self.send(client, op)
    }

    fn told(&mut self, client: usize, what: Incoming) {
        self.now_us += 10;
        let at_us = self.now_us;
        let received = &mut self.history.connections[client].received;
        received.push(Received { at_us, what });
    }

    fn answer(&mut self, client: usize, request: usize, zxid: i64, err: i32, body: Body) {
        let xid = self.history.connections[client].sent[request].xid;
        let reply = Reply {
            xid,
            zxid,
            err,
            body,
        };
        self.told(client, Incoming::Reply { request, reply });
    }

    /// What the model would answer, at the newest zxid.
    fn answer_rightly(&mut self, client: usize, request: usize) {
        let truth = self.truth();
        let done = truth.writes.get(&(client, request)).cloned();
        let (zxid, answer) = match done {
            Some(done) => (done.zxid, done.answer),
            None => {
                let connection = &self.history.connections[client];
                let op = &connection.sent[request].op;
                let answer = truth.tree().read(op, &caller(connection, request));
                let nothing = crate::model::Answer {
                    err: 0,
                    body: Body::Nothing,
                };
                (truth.last_zxid(), answer.unwrap_or(nothing))
            }
        };
        self.answer(client, request, zxid, answer.err, answer.body);
    }

    fn event(&mut self, client: usize, zxid: i64, kind: i32, path: &str) {
        let path = path.to_owned();
        let notification = Notification { zxid, kind, path };
        self.told(client, Incoming::Notification(notification));
    }

    fn truth(&self) -> Truth {
        Truth::replay(&self.entries, &self.history, SESSION)
    }

    fn check(&self) -> Result<(), Violation> {
        check(&self.history, &self.truth())
    }

    fn property(&self) -> &'static str {
        self.check().expect_err("a violation").property
    }
}

fn logged(op: &Op) -> TreeOp {
    match op {
        Op::Create(create) => TreeOp::Create(ModelCreate {
            path: create.path.as_str().into(),
            value: create.data.clone().map(Into::into),
            acl: std::sync::Arc::from([]),
            lifetime: Lifetime::Persistent,
            sequential: false,
            malformed: false,
        }),
        Op::SetData { path, data, .. } => TreeOp::SetValue {
            path: path.as_str().into(),
            value: data.clone().map(Into::into),
            expected_version: None,
        },
        Op::Delete { path, .. } => TreeOp::Delete {
            path: path.as_str().into(),
            expected_version: None,
        },
        other => panic!("{other:?}"),
    }
}

fn create(path: &str, flags: i32) -> Op {
    Op::Create(Create {
        op: OpCode::CREATE,
        path: path.to_owned(),
        data: Some(b"x".to_vec()),
        acl: vec![Ace {
            permissions: 31,
            scheme: "world",
            id: "anyone",
        }],
        flags,
        ttl_ms: None,
    })
}

fn set(path: &str, data: &str) -> Op {
    Op::SetData {
        path: path.to_owned(),
        data: Some(data.as_bytes().to_vec()),
        version: -1,
    }
}

fn get(path: &str, watch: bool) -> Op {
    let path = path.to_owned();
    Op::GetData { path, watch }
}

#[test]
fn a_right_history_passes() {
    let mut scene = Scene::new();
    for op in [create("/a", 0), create("/a/e", 1)] {
        let request = scene.write(0, op);
        scene.answer_rightly(0, request);
    }
    let request = scene.send(1, get("/a", true));
    scene.answer_rightly(1, request);
    let request = scene.write(0, set("/a", "y"));
    scene.answer_rightly(0, request);
    scene.event(1, 5, 3, "/a");
    let request = scene.send(1, Op::Ping);
    scene.answer_rightly(1, request);
    let request = scene.write(0, Op::CloseSession);
    scene.answer_rightly(0, request);
    assert_eq!(scene.check(), Ok(()));
    assert_eq!(scene.truth().tree().get("/a/e"), None);
}

#[test]
fn a_write_that_is_not_in_the_log_is_lost() {
    let mut scene = Scene::new();
    let request = scene.write(0, create("/a", 0));
    scene.answer_rightly(0, request);
    scene.entries.pop();
    assert_eq!(scene.property(), "no acknowledged write is lost");
}

#[test]
fn one_request_has_one_effect() {
    let mut scene = Scene::new();
    let request = scene.write(0, set("/", "x"));
    scene.answer_rightly(0, request);
    let Some(Logged::Write { mut place, ops }) =
        scene.entries.last().map(|it| it.commands[0].clone())
    else {
        panic!("a write");
    };
    scene.log(Logged::Write {
        place,
        ops: ops.clone(),
    });
    assert_eq!((scene.check(), scene.truth().repeated), (Ok(()), 1));
    (place.seq, place.follows) = (2, 1);
    scene.log(Logged::Write { place, ops });
    assert_eq!(scene.property(), "every request takes effect once");
}

#[test]
fn a_reply_that_differs_in_one_field_is_found() {
    let mut scene = Scene::new();
    let request = scene.write(0, create("/a", 0));
    scene.answer(0, request, 3, 0, Body::Path("/b".to_owned()));
    assert_eq!(scene.property(), "replies to writes are the model's");
    let mut scene = Scene::new();
    let request = scene.write(0, create("/a", 0));
    scene.answer(0, request, 4, 0, Body::Path("/a".to_owned()));
    assert_eq!(scene.property(), "replies to writes are the model's");
}

#[test]
fn a_refusal_for_lack_of_space_needs_a_lack_of_space() {
    let mut scene = Scene::new();
    let request = scene.send(0, set("/", "x"));
    scene.answer(0, request, 2, -127, Body::Nothing);
    assert_eq!(scene.property(), "replies to writes are the model's");
    scene.history.full_us.push((0, 100));
    assert_eq!(scene.check(), Ok(()));
}

#[test]
fn a_read_shows_its_zxid_and_nothing_of_its_sessions_later_writes() {
    let mut scene = Scene::new();
    let first = scene.write(0, set("/", "1"));
    let read = scene.send(0, get("/", false));
    let second = scene.write(0, set("/", "2"));
    scene.answer_rightly(0, first);
    scene.answer_rightly(0, read);
    scene.answer_rightly(0, second);
    assert_eq!(scene.property(), "reads are as of their zxid");
    let mut stale = Scene::new();
    let write = stale.write(0, set("/", "1"));
    stale.answer_rightly(0, write);
    let read = stale.send(1, get("/", false));
    let truth = stale.truth();
    let old = truth.states[2]
        .tree
        .read(&get("/", false), &Caller::default());
    stale.answer(1, read, 3, 0, old.expect("a read").body);
    assert_eq!(stale.property(), "reads are as of their zxid");
}

#[test]
fn time_does_not_go_back_for_a_session() {
    let mut scene = Scene::new();
    let write = scene.write(0, set("/", "1"));
    scene.answer_rightly(0, write);
    let ping = scene.send(0, Op::Ping);
    scene.answer(0, ping, 2, 0, Body::Nothing);
    assert_eq!(scene.property(), "sessions see one order");
}

#[test]
fn what_was_answered_before_another_began_comes_before_it() {
    let mut scene = Scene::new();
    let first = scene.write(0, set("/", "1"));
    let second = scene.write(1, set("/", "2"));
    scene.answer_rightly(1, second);
    let late = scene.send(
        0,
        Op::Sync {
            path: "/".to_owned(),
        },
    );
    scene.answer_rightly(0, first);
    scene.answer(0, late, 3, 0, Body::Path("/".to_owned()));
    assert_eq!(scene.property(), "sessions see one order");
}

#[test]
fn a_watch_fires_once_and_before_newer_data() {
    let armed = || {
        let mut scene = Scene::new();
        let read = scene.send(1, get("/", true));
        scene.answer_rightly(1, read);
        let write = scene.write(0, set("/", "1"));
        scene.answer_rightly(0, write);
        scene
    };
    let newer = |scene: &mut Scene| {
        let ping = scene.send(1, Op::Ping);
        scene.answer_rightly(1, ping);
    };
    let mut lost = armed();
    assert_eq!(lost.check(), Ok(()), "it may be on its way");
    newer(&mut lost);
    assert_eq!(lost.property(), PROPERTY_OF_WATCHES);
    let mut late = armed();
    newer(&mut late);
    late.event(1, 3, 3, "/");
    assert_eq!(late.property(), PROPERTY_OF_WATCHES);
    let mut right = armed();
    right.event(1, 3, 3, "/");
    newer(&mut right);
    assert_eq!(right.check(), Ok(()));
    right.event(1, 3, 3, "/");
    assert_eq!(right.property(), PROPERTY_OF_WATCHES, "twice");
    let mut other = armed();
    other.event(1, 3, 4, "/");
    assert_eq!(other.property(), PROPERTY_OF_WATCHES, "another kind");
}

const PROPERTY_OF_WATCHES: &str = "watches fire once and before newer data";

#[test]
fn set_watches_tells_what_was_missed() {
    let mut scene = Scene::new();
    let write = scene.write(0, set("/", "1"));
    scene.answer_rightly(0, write);
    let lists = WatchLists {
        relative_zxid: 2,
        data: vec!["/".to_owned(), "/zookeeper".to_owned()],
        ..WatchLists::default()
    };
    let request = scene.send(1, Op::SetWatches(lists));
    scene.event(1, -1, 3, "/");
    scene.answer_rightly(1, request);
    assert_eq!(scene.check(), Ok(()));
    scene.history.connections[1].received.remove(0);
    assert_eq!(scene.property(), PROPERTY_OF_WATCHES);
}

#[test]
fn a_gap_may_merge_events_and_lose_none() {
    let armed = || {
        let mut scene = Scene::new();
        let read = scene.send(1, get("/", true));
        scene.answer_rightly(1, read);
        for data in ["1", "2"] {
            let write = scene.write(0, set("/", data));
            scene.answer_rightly(0, write);
        }
        scene.now_us += 1;
        scene.history.gaps.push(Gap {
            at_us: scene.now_us,
            proxy: 0,
            from_zxid: 2,
            zxid: 4,
        });
        scene
    };
    let newer = |scene: &mut Scene| {
        let ping = scene.send(1, Op::Ping);
        scene.answer_rightly(1, ping);
    };
    let mut told = armed();
    told.event(1, -1, 3, "/");
    newer(&mut told);
    assert_eq!(told.check(), Ok(()));
    let mut lost = armed();
    newer(&mut lost);
    assert_eq!(lost.property(), PROPERTY_OF_WATCHES);
}

#[test]
fn sequence_numbers_rise() {
    let mut scene = Scene::new();
    for number in ["0000000000", "0000000000"] {
        let request = scene.write(0, create("/s-", 2));
        let zxid = scene.truth().last_zxid();
        scene.answer(0, request, zxid, 0, Body::Path(format!("/s-{number}")));
    }
    let found = sequence::check(&scene.history, &scene.truth());
    assert!(found.is_err());
}

#[test]
fn a_session_ends_neither_too_early_nor_never() {
    let mut scene = Scene::new();
    scene.log(Logged::Expire {
        session: OTHER,
        attachment: 1,
    });
    let mut contacts = Contacts::default();
    contacts.heard(SESSION, 60_000_000);
    contacts.heard(OTHER, 1_000_000);
    contacts.ended(OTHER, 5_000_000);
    contacts.calm_us = (50_000_000, 60_000_000);
    let found = |contacts: &Contacts| contacts.check(&scene.history, &scene.truth(), 500);
    assert_eq!(found(&contacts), Ok(()));
    contacts.led(1_500_000);
    assert!(found(&contacts).is_err(), "a new leader knows nothing");
    let mut immortal = Contacts::default();
    immortal.heard(SESSION, 1_000_000);
    immortal.calm_us = (50_000_000, 60_000_000);
    assert!(found(&immortal).is_err());
}

#[test]
fn ages_do_not_go_back() {
    let mut scene = Scene::new();
    scene.write(0, set("/", "1"));
    scene.entries[2].elapsed_ms = 1;
    assert_eq!(scene.property(), "elapsed time never goes back");
}
