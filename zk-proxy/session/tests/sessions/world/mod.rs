//! A front end in a world of one thread: clients that read when they like, a shard that is a map, and every order
//! from one seed.

pub(crate) mod client;
pub(crate) mod shard;

use std::sync::Arc;

use bytes::BytesMut;
use oxkeeper_link::{Event, LinkError, Opened};
use oxkeeper_model::{Now, Position};
use oxkeeper_session::{Consumer, FrontEnd, SessionOptions};

use client::Client;
use shard::MapShard;

/// A small generator; the same seed gives the same run.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

pub(crate) struct World {
    pub(crate) front_end: Arc<FrontEnd>,
    pub(crate) shard: MapShard,
    pub(crate) clients: Vec<Client>,
    pub(crate) rng: Rng,
    consumer: Consumer,
    now: Now,
}

impl World {
    pub(crate) fn new(seed: u64, options: SessionOptions) -> Self {
        let front_end = Arc::new(FrontEnd::new(options));
        let shard = MapShard::default();
        let link = shard.link();
        front_end.open_link(|| Ok(link)).expect("it opens");
        let mut consumer = Consumer::new(Arc::clone(&front_end));
        let opened = Event::Opened(Opened {
            position: Position::default(),
            resumed: false,
        });
        consumer.deliver(&mut vec![opened], Now::default());
        Self {
            consumer,
            front_end,
            shard,
            clients: Vec::new(),
            rng: Rng::new(seed),
            now: Now::default(),
        }
    }

    /// A new client with a session.
    pub(crate) fn connect(&mut self) -> usize {
        self.clients
            .push(Client::connect(&self.front_end, self.now));
        self.clients.len() - 1
    }

    /// The link ends. What the shard does from now on is not heard of.
    pub(crate) fn break_link(&mut self) {
        self.consumer.closed(LinkError::Closed);
        self.shard.forget_sent();
    }

    /// Another link; whether it continues where the last one ended is for the caller to know.
    pub(crate) fn open_link(&mut self, resumed: bool) {
        assert!(self.front_end.wants_link().is_some());
        let link = self.shard.link();
        self.front_end.open_link(|| Ok(link)).expect("it opens");
        let opened = Event::Opened(Opened {
            position: Position {
                revision: self.shard.revision(),
                ..Position::default()
            },
            resumed,
        });
        self.consumer.deliver(&mut vec![opened], self.now);
    }

    /// Time passes.
    pub(crate) fn wait_us(&mut self, us: u64) {
        self.now.monotonic_us += us;
    }

    pub(crate) fn now(&self) -> Now {
        self.now
    }

    /// One thing that can happen happens. False if nothing can.
    pub(crate) fn step(&mut self) -> bool {
        self.now.monotonic_us += 1;
        let start = self.rng.next() as usize;
        let count = self.clients.len() + 1;
        (0..count).any(|offset| match (start + offset) % count {
            0 => self.step_shard(),
            at => self.clients[at - 1].step(&mut self.rng, self.now),
        })
    }

    fn step_shard(&mut self) -> bool {
        let mut events = self.shard.step(&mut self.rng);
        if events.is_empty() {
            return false;
        }
        self.consumer.deliver(&mut events, self.now);
        true
    }

    /// Until nothing can happen any more.
    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    /// Every request of every client was answered, or its connection is closed.
    pub(crate) fn check_nobody_waits(&self) {
        for (at, client) in self.clients.iter().enumerate() {
            assert!(
                client.is_closed() || client.unanswered() == 0,
                "client {at} waits in silence for {} replies, {} bytes not received",
                client.unanswered(),
                client.to_send.len()
            );
        }
        let open = self.clients.iter().filter(|client| !client.is_closed());
        if open.count() == self.clients.len() {
            assert_eq!(self.front_end.outstanding(), 0);
        }
    }
}

/// The frames in `bytes`, which loses them.
pub(crate) fn take_frames(bytes: &mut BytesMut) -> Vec<BytesMut> {
    let mut frames = Vec::new();
    while let Some(length) = bytes.first_chunk::<4>() {
        let length = 4 + u32::from_be_bytes(*length) as usize;
        if bytes.len() < length {
            break;
        }
        frames.push(bytes.split_to(length).split_off(4));
    }
    frames
}
