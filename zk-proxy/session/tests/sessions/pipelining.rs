//! Order: random pipelined requests of several sessions over a map as shard. Every reply is checked against what the map
//! held at its zxid, and every read has to lie between the writes of its own session that it stood between.

use oxkeeper_session::SessionOptions;
use oxkeeper_session::limits::{
    CONNECTION_BYTES_MAX, CONNECTION_REQUESTS_MAX, OUTSTANDING_REQUESTS_MAX, UNSENT_TOTAL_BYTES_MAX,
};
use oxkeeper_wire::client::decode_reply;
use oxkeeper_wire::{
    AclRecord, CreateRequest, DeleteRequest, ErrorCode, MultiReadOp, OpCode, Request,
    SetDataRequest,
};
use proptest::prelude::*;

use crate::world::{Rng, World};

const PATHS: [&str; 6] = ["/a", "/b", "/c", "/d", "/e", "/f"];

/// What a client asked, to check the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Write,
    Get(&'static str),
    Exists(&'static str),
    Children,
    Many,
    Ping,
}

fn set<'a>(path: &'a str, data: &'a [u8], version: i32) -> Request<'a> {
    Request::SetData(SetDataRequest {
        path: Some(path.into()),
        data: Some(data),
        version,
    })
}

fn create<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
    let anyone = AclRecord {
        permissions: 31,
        scheme: Some("world".into()),
        id: Some("anyone".into()),
    };
    Request::Create(CreateRequest {
        op: OpCode::CREATE,
        path: Some(path.into()),
        data: Some(data),
        acl: Some(vec![anyone]),
        flags: 0,
        ttl_ms: None,
    })
}

fn get(path: &str) -> Request<'_> {
    Request::GetData {
        path: Some(path.into()),
        watch: false,
    }
}

struct Load {
    world: World,
    /// What each client asked, by tag.
    asked: Vec<Vec<Asked>>,
    /// Makes values unique.
    count: u32,
}

impl Load {
    fn new(seed: u64, clients: usize, view_cache_bytes: usize) -> Self {
        let options = SessionOptions {
            view_cache_bytes,
            packet_bytes_max: 32 << 20,
            ..SessionOptions::default()
        };
        let mut world = World::new(seed, options);
        for _ in 0..clients {
            world.connect();
        }
        world.run();
        Self {
            world,
            asked: vec![Vec::new(); clients],
            count: 0,
        }
    }

    fn send(&mut self, client: usize, asked: Asked, request: &Request<'_>) {
        let tag = self.asked[client].len();
        self.asked[client].push(asked);
        self.world.clients[client].request(tag, request);
    }

    fn value(&mut self, bytes: usize) -> Vec<u8> {
        self.count += 1;
        let mut value = self.count.to_be_bytes().to_vec();
        value.resize(4 + bytes, 0);
        value
    }

    fn random_request(&mut self, client: usize, large_bytes: u64) {
        let rng = &mut self.world.rng;
        let path = PATHS[rng.below(PATHS.len() as u64) as usize];
        let kind = rng.below(20);
        let version = rng.below(8) as i32 - 1;
        let bytes = match rng.one_in(6) {
            true => rng.below(large_bytes) as usize,
            false => rng.below(200) as usize,
        };
        let value = self.value(bytes);
        match kind {
            0..4 => self.send(client, Asked::Write, &set(path, &value, -1)),
            4 => self.send(client, Asked::Write, &set(path, &value, version)),
            5..7 => self.send(client, Asked::Write, &create(path, &value)),
            7 => {
                let request = DeleteRequest {
                    path: Some(path.into()),
                    version: -1,
                };
                self.send(client, Asked::Write, &Request::Delete(request));
            }
            8..14 => self.send(client, Asked::Get(path), &get(path)),
            14..16 => {
                let request = Request::Exists {
                    path: Some(path.into()),
                    watch: false,
                };
                self.send(client, Asked::Exists(path), &request);
            }
            16 => {
                let request = Request::GetChildren {
                    path: Some("/".into()),
                    watch: false,
                };
                self.send(client, Asked::Children, &request);
            }
            17 => {
                let reads = PATHS.iter().map(|path| MultiReadOp::GetData {
                    path: Some((*path).into()),
                    watch: false,
                });
                self.send(client, Asked::Many, &Request::MultiRead(reads.collect()));
            }
            18 => {
                let request = Request::Sync {
                    path: Some("/".into()),
                };
                self.send(client, Asked::Ping, &request);
            }
            _ => self.send(client, Asked::Ping, &Request::Ping),
        }
    }

    fn check(&self) {
        self.world.check_nobody_waits();
        for (client, asked) in self.world.clients.iter().zip(&self.asked) {
            let mut last_write = 0;
            let mut last_read = 0;
            for (tag, frame) in &client.replies {
                let reply = decode_reply(frame).expect("a reply");
                let zxid = reply.zxid as u64;
                match asked[*tag] {
                    Asked::Write => {
                        assert!(zxid > last_read, "a read saw a later write of its session");
                        assert!(zxid > last_write, "writes out of order");
                        last_write = zxid;
                        continue;
                    }
                    Asked::Ping => continue,
                    Asked::Get(path) => {
                        let found = reply.data_and_stat().ok().map(|(data, _)| data);
                        self.check_value(path, zxid, reply.err, found);
                    }
                    Asked::Exists(path) => {
                        let exists = self.world.shard.at(path, zxid).is_some();
                        assert_eq!(reply.err == ErrorCode::OK, exists, "{path} at {zxid}");
                    }
                    Asked::Children => {
                        let names = reply.texts().expect("names").expect("not null");
                        let names: Vec<_> = names.into_iter().flatten().collect();
                        assert_eq!(names, self.world.shard.children_at("/", zxid));
                    }
                    Asked::Many => self.check_many(zxid, &reply.multi_results().expect("results")),
                }
                assert!(zxid >= last_write, "a read missed a write of its session");
                assert!(zxid >= last_read, "time went back");
                last_read = zxid;
            }
        }
    }

    fn check_many(&self, zxid: u64, results: &[oxkeeper_wire::client::MultiResult<'_>]) {
        use oxkeeper_wire::client::MultiResult;
        for (path, result) in PATHS.iter().zip(results) {
            match result {
                MultiResult::Data { data, .. } => {
                    self.check_value(path, zxid, ErrorCode::OK, Some(*data));
                }
                MultiResult::Error(code) => self.check_value(path, zxid, *code, None),
                other => panic!("{other:?}"),
            }
        }
    }

    fn check_value(&self, path: &str, zxid: u64, code: ErrorCode, data: Option<Option<&[u8]>>) {
        let expected = self.world.shard.at(path, zxid);
        let expected = expected.map(|value| value.as_deref());
        let start = |value: Option<Option<&[u8]>>| {
            value
                .flatten()
                .map(|bytes| (bytes.len(), bytes[..4].to_vec()))
        };
        assert_eq!(start(data), start(expected), "{path} at {zxid}: {code:?}");
        let missing = expected.is_none().then_some(ErrorCode::NO_NODE);
        assert_eq!(code, missing.unwrap_or(ErrorCode::OK));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// With a view that holds next to nothing, and with one that holds everything.
    #[test]
    fn reads_see_their_own_writes_and_nothing_later(seed in any::<u64>()) {
        let mut choice = Rng::new(seed);
        let view_bytes = if choice.one_in(2) { 3000 } else { 1 << 20 };
        let mut load = Load::new(seed, 4, view_bytes);
        for _ in 0..150 {
            let client = load.world.rng.below(4) as usize;
            for _ in 0..load.world.rng.below(20) {
                load.random_request(client, 100_000);
            }
            for _ in 0..load.world.rng.below(10) {
                load.world.step();
            }
        }
        load.world.run();
        load.check();
        prop_assert!(load.world.clients.iter().all(|client| !client.is_closed()));
        prop_assert!(load.world.shard.queries_answered > 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Bursts beyond the limit of requests and of bytes of a connection, behind writes, behind reads that ask, and mixed.
    #[test]
    fn a_burst_of_any_size_is_answered(seed in any::<u64>()) {
        let mut load = Load::new(seed, 3, 1 << 20);
        let burst = CONNECTION_REQUESTS_MAX as u64;
        for client in 0..3 {
            let count = burst / 2 + load.world.rng.below(3 * burst);
            let kind = load.world.rng.below(3);
            load.world.clients[client].is_quick = load.world.rng.one_in(2);
            for _ in 0..count {
                match kind {
                    0 => {
                        let value = load.value(0);
                        load.send(client, Asked::Write, &set("/a", &value, -1));
                    }
                    1 => load.send(client, Asked::Get("/cold"), &get("/cold")),
                    _ => load.random_request(client, 50_000),
                }
            }
        }
        load.world.run();
        load.check();
        prop_assert!(load.world.clients.iter().all(|client| !client.is_closed()));
    }
}

/// The reproduction that once hung: one more than the limit, behind a write, to a client that reads everything at once.
#[test]
fn one_more_set_than_the_limit_is_answered_too() {
    for quick in [true, false] {
        let mut load = Load::new(1, 1, 1 << 20);
        load.world.clients[0].is_quick = quick;
        load.send(0, Asked::Write, &create("/a", b"0000"));
        for _ in 0..=CONNECTION_REQUESTS_MAX {
            let value = load.value(0);
            load.send(0, Asked::Write, &set("/a", &value, -1));
        }
        load.world.run();
        load.check();
        assert_eq!(
            load.world.clients[0].replies.len(),
            CONNECTION_REQUESTS_MAX + 2
        );
    }
}

#[test]
fn more_bytes_than_the_limit_are_answered_too() {
    let mut load = Load::new(2, 1, 1 << 20);
    load.send(0, Asked::Write, &create("/a", b"0000"));
    for bytes in [100, CONNECTION_BYTES_MAX / 3, 2 * CONNECTION_BYTES_MAX, 10] {
        for _ in 0..6 {
            let value = load.value(bytes);
            load.send(0, Asked::Write, &set("/a", &value, -1));
            load.send(0, Asked::Get("/a"), &get("/a"));
        }
    }
    load.world.run();
    load.check();
    assert_eq!(load.world.clients[0].replies.len(), 49);
}

/// Together they have more under way than all may have.
#[test]
fn the_limit_of_all_connections_lets_everybody_through_in_the_end() {
    let clients = OUTSTANDING_REQUESTS_MAX / CONNECTION_REQUESTS_MAX + 4;
    let mut load = Load::new(3, clients, 1 << 20);
    for client in 0..clients {
        load.world.clients[client].is_quick = client % 2 == 0;
        for _ in 0..CONNECTION_REQUESTS_MAX + 100 {
            load.send(client, Asked::Get("/cold"), &get("/cold"));
        }
    }
    load.world.run();
    load.check();
}

/// Clients that ask for much and never read do not keep the others from being served.
#[test]
fn those_who_do_not_read_hold_up_nobody_else() {
    let readers = 3;
    let silent = OUTSTANDING_REQUESTS_MAX / CONNECTION_REQUESTS_MAX + 10;
    let mut load = Load::new(4, readers + silent, 16 << 20);
    let value = load.value(300_000);
    load.send(0, Asked::Write, &create("/a", &value));
    load.world.run();
    for client in readers..readers + silent {
        load.world.clients[client].reads = false;
        for _ in 0..2 * CONNECTION_REQUESTS_MAX {
            load.send(client, Asked::Get("/a"), &get("/a"));
        }
    }
    load.world.run();
    for client in 0..readers {
        for _ in 0..50 {
            load.send(client, Asked::Get("/a"), &get("/a"));
        }
    }
    load.world.run();
    for client in &load.world.clients[..readers] {
        assert!(!client.is_closed() && client.unanswered() == 0);
    }
    let held = load.world.front_end.unsent_bytes();
    assert!(0 < held && held <= UNSENT_TOTAL_BYTES_MAX, "{held}");
}

/// As many as would hold far more than there is for them: some are closed, and the rest fits.
#[test]
fn what_is_held_for_clients_that_do_not_read_stays_within_its_budget() {
    let mut load = Load::new(5, 201, 16 << 20);
    let value = load.value(1_000_000);
    load.send(0, Asked::Write, &create("/a", &value));
    load.world.run();
    for client in 1..=200 {
        load.world.clients[client].reads = false;
        for _ in 0..100 {
            load.send(client, Asked::Get("/a"), &get("/a"));
        }
    }
    while load.world.step() {
        assert!(load.world.front_end.unsent_bytes() <= UNSENT_TOTAL_BYTES_MAX);
    }
    load.send(0, Asked::Get("/a"), &get("/a"));
    load.world.run();
    let is_closed = |client: &&crate::world::client::Client| client.is_closed();
    let closed = load.world.clients.iter().filter(is_closed).count();
    assert!(0 < closed && closed < 200, "{closed}");
    assert!(!load.world.clients[0].is_closed());
    assert_eq!(load.world.clients[0].unanswered(), 0);
}
