//! Order, with a shard that is played by hand.

use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use oxkeeper_model::{
    Change, ChangeKind, ChangeSet, ChangedValue, ClientCommand, Fetched, OpResults, Path, Revision,
    SharedHead,
};
use oxkeeper_wire::client::{decode_reply, encode_request};
use oxkeeper_wire::{DeleteRequest, Request, SetDataRequest, next_frame};

use super::*;
use crate::seed::tree_seed;

const SESSION: SessionId = SessionId(7);

/// One connection with an open session, and the shard's side of it.
struct Bench {
    options: SessionOptions,
    watches: WatchTable,
    load: Load,
    stats: Stats,
    view: View,
    pipeline: Pipeline,
    sent: Vec<LinkRequest>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            options: SessionOptions::default(),
            watches: WatchTable::default(),
            load: Load::default(),
            stats: Stats::default(),
            view: View::new(Revision(0), 1 << 20),
            pipeline: new_pipeline(),
            sent: Vec::new(),
        };
        bench.step(|pipeline, cx| pipeline.on_connect(cx, connect_request(0)));
        assert_eq!(
            bench.sent,
            [LinkRequest::Command {
                token: Token(1),
                command: ClientCommand::OpenSession {
                    nonce: bench.options.nonce(ConnectionId(1)),
                    timeout_ms: 10_000
                }
            }]
        );
        bench.sent.clear();
        let grant = SessionGrant {
            session: SESSION,
            password: [1; 16],
            attachment: Attachment(1),
            timeout_ms: 10_000,
        };
        bench.step(|pipeline, cx| pipeline.on_granted(cx, Ok(grant)));
        bench.pipeline.outbox.bytes.clear();
        bench
    }

    fn step(&mut self, step: impl FnOnce(&mut Pipeline, &mut Context<'_>)) {
        let mut cx = Context {
            options: &self.options,
            view: &self.view,
            watches: &self.watches,
            load: &self.load,
            stats: &self.stats,
            requests: &mut self.sent,
            now_us: 0,
            is_reconciling: false,
        };
        step(&mut self.pipeline, &mut cx);
    }

    fn request(&mut self, xid: i32, request: &Request<'_>) {
        let mut out = BytesMut::new();
        encode_request(&mut out, xid, request);
        let frame = out.freeze().slice(4..);
        self.step(|pipeline, cx| {
            pipeline.on_frame(cx, frame).expect("a whole header");
        });
    }

    /// The shard applies the next revision: a write of `value` to `path`.
    fn apply_set(&mut self, path: &str, value: &'static [u8]) -> SharedHead {
        let revision = self.view.position().next();
        let mut head = tree_seed()[0].record.head.clone();
        head.modified_revision = revision;
        head.value_bytes = Some(value.len() as u32);
        let head = SharedHead::from(head);
        self.view.apply(&ChangeSet {
            revision,
            changes: [Change {
                path: path.into(),
                kind: ChangeKind::ValueSet,
                head: head.clone(),
                parent_acl: None,
                value: ChangedValue::Set(Some(Bytes::from_static(value))),
            }]
            .into(),
            ..ChangeSet::empty(revision)
        });
        head
    }

    fn written(&mut self, seq: u64, result: Result<TxnOutcome, WriteRefusal>) {
        let revision = self.view.position();
        let outcome = WriteOutcome {
            session: SESSION,
            seq: WriteSeq(seq),
            revision,
            result,
        };
        let is_write = |request: &&LinkRequest| {
            matches!(
                request,
                LinkRequest::Command {
                    command: ClientCommand::Write(_),
                    ..
                }
            )
        };
        let sent = self.sent.iter().filter(is_write).nth(seq as usize - 1);
        let Some(&LinkRequest::Command { token, .. }) = sent else {
            panic!("write {seq} was not sent");
        };
        self.step(|pipeline, cx| pipeline.on_written(cx, token, outcome));
    }

    /// The shard applies a set and says so.
    fn set_done(&mut self, seq: u64, path: &str, value: &'static [u8]) {
        let head = self.apply_set(path, value);
        let results = OpResults::from_iter([OpResult::ValueSet { head }]);
        self.written(seq, Ok(TxnOutcome::Applied(results)));
    }

    /// (xid, zxid, code, data of a getData) of everything that was written, and forgets it.
    fn replies(&mut self) -> Vec<(i32, i64, ErrorCode, Option<Vec<u8>>)> {
        let out = self.pipeline.outbox.bytes.split().freeze();
        let mut rest = &out[..];
        let mut replies = Vec::new();
        while let Some(frame) = next_frame(rest, 1 << 20).expect("a frame") {
            let reply = decode_reply(frame).expect("a reply");
            let data = reply
                .data_and_stat()
                .ok()
                .and_then(|(data, _)| data.map(<[u8]>::to_vec));
            replies.push((reply.xid, reply.zxid, reply.err, data));
            rest = &rest[4 + frame.len()..];
        }
        replies
    }
}

fn new_pipeline() -> Pipeline {
    let outbox = Outbox::new(Waker::noop().clone(), None, Arc::default());
    Pipeline::new(ConnectionId(1), Arc::from([]), outbox, 0)
}

fn connect_request(last_zxid_seen: i64) -> ConnectRequest {
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen,
        timeout_ms: 10_000,
        session_id: 0,
        password: None,
        read_only: Some(false),
    }
}

fn get(path: &str) -> Request<'_> {
    Request::GetData {
        path: Some(path.into()),
        watch: false,
    }
}

fn set<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
    Request::SetData(SetDataRequest {
        path: Some(path.into()),
        data: Some(data),
        version: -1,
    })
}

#[test]
fn a_read_between_two_writes_shows_the_first_and_not_the_second() {
    let mut bench = Bench::new();
    bench.apply_set("/a", b"0");
    bench.request(1, &set("/a", b"1"));
    bench.request(2, &get("/a"));
    bench.request(3, &set("/a", b"2"));
    assert_eq!(bench.sent.len(), 2, "both writes are on their way");
    assert!(bench.replies().is_empty());

    bench.set_done(1, "/a", b"1");
    let replies = bench.replies();
    assert_eq!(replies[0].0, 1);
    assert_eq!(replies[1], (2, 2, ErrorCode::OK, Some(b"1".to_vec())));
    bench.set_done(2, "/a", b"2");
    assert_eq!(bench.replies()[0].0, 3);
}

#[test]
fn a_read_that_must_ask_holds_back_everything_behind_it() {
    let mut bench = Bench::new();
    bench.request(1, &get("/cold"));
    bench.request(2, &set("/cold", b"2"));
    bench.request(3, &Request::Ping);
    let query = Query::Records {
        paths: vec![Path::from("/cold")],
        with_values: true,
    };
    let asked = LinkRequest::Query {
        token: Token(2),
        query: query.clone(),
    };
    assert_eq!(bench.sent, [asked]);
    assert!(bench.replies().is_empty());

    let head = tree_seed()[0].record.head.clone().into();
    let found = Fetched {
        head,
        value: Some(Some(Bytes::from_static(b"1"))),
    };
    bench.step(|pipeline, cx| {
        pipeline.on_answer(cx, query, Answer::Records(vec![Some(found)]));
    });
    let replies = bench.replies();
    assert_eq!(replies, [(1, 0, ErrorCode::OK, Some(b"1".to_vec()))]);
    assert!(
        matches!(bench.sent[1], LinkRequest::Command { .. }),
        "the write goes out only now"
    );
    bench.set_done(1, "/cold", b"2");
    let xids: Vec<_> = bench.replies().iter().map(|reply| reply.0).collect();
    assert_eq!(xids, [2, -2]);
}

#[test]
fn a_write_that_is_refused_is_answered_in_its_turn_and_those_behind_it_go_on() {
    let mut bench = Bench::new();
    bench.apply_set("/a", b"0");
    bench.request(1, &set("/a", b"1"));
    bench.request(2, &set("/a", b"2"));
    bench.request(3, &get("/a"));
    bench.request(4, &set("/a", b"3"));
    bench.step(|pipeline, cx| pipeline.on_refused(cx, Token(3), Refusal::NoSpace));
    assert!(bench.replies().is_empty(), "its turn has not come");
    bench.set_done(1, "/a", b"1");
    let replies = bench.replies();
    let codes: Vec<_> = replies.iter().map(|reply| (reply.0, reply.2)).collect();
    let ok = ErrorCode::OK;
    assert_eq!(codes, [(1, ok), (2, ErrorCode::THROTTLED_OP), (3, ok)]);
    assert_eq!(replies[2].3, Some(b"1".to_vec()));
    bench.step(|pipeline, cx| pipeline.on_refused(cx, Token(4), Refusal::TooLarge));
    assert_eq!(bench.replies()[0].2, ErrorCode::BAD_ARGUMENTS);
    assert!(!bench.pipeline.is_closing());
}

#[test]
fn a_beat_is_due_when_outcomes_arrived_that_nobody_was_told_of() {
    let mut bench = Bench::new();
    assert_eq!(bench.pipeline.beat(false), None);
    assert!(bench.pipeline.beat(true).is_some());
    bench.request(1, &set("/a", b"1"));
    bench.set_done(1, "/a", b"1");
    assert!(bench.pipeline.beat(false).is_some());
    assert_eq!(bench.pipeline.beat(false), None);
}

#[test]
fn a_moved_session_ends_the_connection_without_a_reply() {
    let mut bench = Bench::new();
    bench.request(
        1,
        &Request::Delete(DeleteRequest {
            path: Some("/a".into()),
            version: -1,
        }),
    );
    bench.request(2, &Request::Ping);
    bench.written(1, Err(WriteRefusal::SessionMoved));
    assert!(bench.pipeline.is_closing());
    assert!(bench.replies().is_empty());
}

#[test]
fn nothing_behind_a_close_is_answered() {
    let mut bench = Bench::new();
    bench.request(1, &Request::CloseSession);
    bench.request(2, &Request::Ping);
    bench.step(|pipeline, cx| assert!(!pipeline.on_session_ended(cx), "it closes itself"));
    let outcome = CloseOutcome {
        revision: Revision(0),
        result: Ok(()),
    };
    bench.step(|pipeline, cx| pipeline.on_session_closed(cx, outcome));
    let xids: Vec<_> = bench.replies().iter().map(|reply| reply.0).collect();
    assert_eq!(xids, [1]);
    assert!(bench.pipeline.is_closing());
    assert_eq!(bench.load.outstanding(), 0);
}

#[test]
fn a_client_from_the_future_is_turned_away() {
    let mut bench = Bench::new();
    bench.pipeline = new_pipeline();
    bench.step(|pipeline, cx| pipeline.on_connect(cx, connect_request(1)));
    assert!(bench.pipeline.is_closing());
    assert!(bench.sent.is_empty() && bench.replies().is_empty());
}
