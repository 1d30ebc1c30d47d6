//! What a client asks for: random requests over few paths, so that clients meet.

use oxkeeper_sim::Random;
use oxkeeper_wire::OpCode;

use crate::op::{Ace, Create, Op};
use crate::reply::{Body, Reply};

/// How a client behaves; the seed decides.
#[derive(Clone, Debug)]
pub struct Habits {
    pub timeout_ms: i32,
    pub burst_max: u64,
    pub pause_us_max: u64,
    /// How long it waits for an answer before it drops its connection.
    pub patience_us: u64,
    /// Weights, beside 100 for a burst of requests.
    pub silences: u64,
    pub disconnects: u64,
    pub closes: u64,
    /// Of a hundred attempts to come back.
    pub wrong_passwords: u64,
    /// What it proves at the start of each connection.
    pub credentials: Vec<&'static str>,
    /// Data as long as this now and then, beside short ones.
    pub data_bytes_max: u64,
}

impl Habits {
    /// Of the client that comes last.
    pub fn auditor() -> Self {
        Self {
            timeout_ms: 4_000,
            burst_max: 1,
            pause_us_max: 100_000,
            patience_us: 4_000_000,
            silences: 0,
            disconnects: 0,
            closes: 0,
            wrong_passwords: 0,
            credentials: vec!["bob:secret"],
            data_bytes_max: 0,
        }
    }
}

const OPEN: Ace = Ace {
    permissions: 31,
    scheme: "world",
    id: "anyone",
};

/// Znodes that all clients use.
const SHARED: [&str; 10] = [
    "/a", "/b", "/a/x", "/a/y", "/b/x", "/b/y", "/a/x/1", "/a/x/2", "/b/y/1", "/c",
];

/// Where sequential znodes are made.
const QUEUES: [&str; 4] = ["/a/s-", "/b/s-", "/c/", "/s-"];

/// Paths that are refused, each in its way.
const ODD: [&str; 8] = [
    "",
    "a",
    "/a/",
    "//x",
    "/none/x",
    "/a/../b",
    "/zookeeper",
    "/a/x/1/2/3",
];

/// Sequential znodes that a client remembers.
const REMEMBERED_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Plan {
    client: usize,
    random: Random,
    written: u64,
    data_bytes_max: u64,
    /// Sequential znodes that it made.
    made: Vec<String>,
}

/// One client's requests without the client: to be recorded, and compared with the model.
pub struct Requests(Plan);

impl Requests {
    pub fn new(seed: u64) -> Self {
        Self(Plan {
            client: 0,
            random: Random::new(seed),
            written: 0,
            data_bytes_max: 40,
            made: Vec::new(),
        })
    }

    /// The first proves who the client is.
    pub fn next(&mut self, index: usize) -> Op {
        if index == 0 {
            return Op::Auth {
                credentials: "bob:secret",
            };
        }
        self.0.next()
    }

    pub fn on_reply(&mut self, op: &Op, reply: &Reply) {
        self.0.on_reply(op, reply);
    }
}

impl Plan {
    pub(super) fn new(client: usize, random: Random, habits: &Habits) -> Self {
        Self {
            client,
            random,
            written: 0,
            data_bytes_max: habits.data_bytes_max,
            made: Vec::new(),
        }
    }

    pub(super) fn on_reply(&mut self, op: &Op, reply: &Reply) {
        let (Op::Create(create), Body::Path(path) | Body::PathStat(path, _)) = (op, &reply.body)
        else {
            return;
        };
        if *path != create.path && self.made.len() < REMEMBERED_MAX {
            self.made.push(path.clone());
        }
    }

    /// What must work when nothing is disturbed any more.
    pub(super) fn last_write(&mut self) -> Op {
        Op::Create(Create {
            op: OpCode::CREATE,
            path: "/audit-".to_owned(),
            data: self.data(),
            acl: vec![OPEN],
            flags: 2,
            ttl_ms: None,
        })
    }

    pub(super) fn next(&mut self) -> Op {
        let watch = self.random.percent(35);
        match self
            .random
            .weighted(&[24, 12, 14, 3, 8, 12, 8, 4, 5, 2, 3, 1, 1, 2, 2, 1])
        {
            0 => self.create(),
            1 => self.delete(),
            2 => self.set(),
            3 => self.set_acl(),
            4 => self.multi(),
            5 => Op::GetData {
                path: self.path(),
                watch,
            },
            6 => Op::Exists {
                path: self.path(),
                watch,
            },
            7 => Op::GetChildren {
                path: self.path(),
                watch,
            },
            8 => Op::GetChildren2 {
                path: self.path(),
                watch,
            },
            9 => Op::GetAcl { path: self.path() },
            10 => Op::Sync { path: self.path() },
            11 => Op::GetEphemerals {
                prefix: (*self.random.pick(&["/", "/a", "/b/x"])).to_owned(),
            },
            12 => Op::GetAllChildrenNumber { path: self.path() },
            13 => self.multi_read(),
            14 => Op::AddWatch {
                path: self.path(),
                mode: self.random.below(2) as i32,
            },
            _ => Op::RemoveWatches {
                path: self.path(),
                kind: self.random.between(1, 5) as i32,
            },
        }
    }

    fn path(&mut self) -> String {
        if !self.made.is_empty() && self.random.percent(15) {
            return self.random.pick(&self.made).clone();
        }
        match self.random.below(20) {
            0 => "/".to_owned(),
            1 => format!("/b/e{}", self.random.below(6)),
            _ => (*self.random.pick(&SHARED)).to_owned(),
        }
    }

    /// Mostly its own, so that every value says who wrote it and when.
    fn data(&mut self) -> Option<Vec<u8>> {
        self.written += 1;
        if self.random.percent(4) {
            return (!self.random.percent(50)).then(Vec::new);
        }
        let mut data = format!("{}.{}", self.client, self.written).into_bytes();
        if self.random.percent(5) {
            let bytes = self.random.below(self.data_bytes_max) as usize;
            data.resize(data.len() + bytes, b'.');
        }
        Some(data)
    }

    fn version(&mut self) -> i32 {
        match self.random.below(6) {
            0 => self.random.below(4) as i32,
            _ => -1,
        }
    }

    fn acl(&mut self) -> Vec<Ace> {
        let ace = |permissions, scheme, id| Ace {
            permissions,
            scheme,
            id,
        };
        match self.random.below(40) {
            0 => vec![ace(1, "world", "anyone")],
            1 => vec![ace(31, "auth", ""), ace(1, "world", "anyone")],
            2 => vec![ace(31, "digest", crate::model::BOB), OPEN, OPEN],
            3 => vec![
                ace(29, "digest", crate::model::BOB),
                ace(12, "world", "anyone"),
            ],
            4 => Vec::new(),
            5 => vec![ace(31, "nobody", "x")],
            _ => vec![OPEN],
        }
    }

    fn create(&mut self) -> Op {
        Op::Create(self.create_anywhere(true))
    }

    fn create_anywhere(&mut self, alone: bool) -> Create {
        let plain = *self.random.pick(&[OpCode::CREATE, OpCode::CREATE2]);
        let (mut op, mut ttl_ms) = (plain, None);
        let mut path = self.path();
        let flags = match self.random.below(12) {
            0..4 => 0,
            4..6 => {
                path = format!("/b/e{}", self.random.below(6));
                1
            }
            6..8 => {
                path = (*self.random.pick(&QUEUES)).to_owned();
                2
            }
            8 | 9 => {
                path = (*self.random.pick(&QUEUES)).to_owned();
                3
            }
            10 => {
                op = OpCode::CREATE_CONTAINER;
                4
            }
            _ if alone => {
                op = OpCode::CREATE_TTL;
                ttl_ms = Some(*self.random.pick(&[500, 1_500, 3_000, 0]));
                5
            }
            _ => 0,
        };
        if self.random.percent(2) {
            path = (*self.random.pick(&ODD)).to_owned();
        }
        Create {
            op,
            path,
            data: self.data(),
            acl: self.acl(),
            flags,
            ttl_ms,
        }
    }

    fn delete(&mut self) -> Op {
        let odd = self.random.percent(3);
        let path = match odd {
            true => (*self.random.pick(&ODD)).to_owned(),
            false => self.path(),
        };
        Op::Delete {
            path,
            version: self.version(),
        }
    }

    fn set(&mut self) -> Op {
        Op::SetData {
            path: self.path(),
            data: self.data(),
            version: self.version(),
        }
    }

    fn set_acl(&mut self) -> Op {
        Op::SetAcl {
            path: self.path(),
            acl: self.acl(),
            version: self.version(),
        }
    }

    fn multi(&mut self) -> Op {
        let count = self.random.below(5);
        let ops = (0..count).map(|_| match self.random.below(6) {
            0..2 => Op::Create(self.create_anywhere(false)),
            2 => self.delete(),
            3 => Op::Check {
                path: self.path(),
                version: self.version(),
            },
            _ => self.set(),
        });
        Op::Multi(ops.collect())
    }

    fn multi_read(&mut self) -> Op {
        let count = self.random.between(1, 5);
        let ops = (0..count).map(|_| {
            let (path, watch) = (self.path(), false);
            match self.random.below(2) {
                0 => Op::GetData { path, watch },
                _ => Op::GetChildren { path, watch },
            }
        });
        Op::MultiRead(ops.collect())
    }
}
