//! One run: clients, proxies and a node, the network between them, and what befalls them.

mod clients;
mod ending;
mod faults;
mod links;
mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::BytesMut;
use oxkeeper_link::{Event as LinkEvent, Request};
use oxkeeper_model::placement::ShardDescriptor;
use oxkeeper_model::{NodeId, Now, Position, ShardId};
use oxkeeper_session::{SessionOptions, tree_seed};
use oxkeeper_shard::{Completion, Operation, ShardOptions};
use oxkeeper_sim::{Counters, Node, NodeOptions, Random, Schedule, Trace, Violation};

use crate::check::{Contacts, Ending};
use crate::client::Client;
use crate::history::History;
use crate::logged::LoggedEntry;
use crate::proxy::Proxy;
use crate::sabotage::{Bug, Sabotage};
use crate::swarm::{FaultKind, SHARD_UUID, Swarm};
use crate::truth::Truth;

/// When clients stop to ask for anything new.
const BUSY_US: u64 = 60_000_000;

/// When everything must be answered, and the audit begins.
const QUIET_US: u64 = BUSY_US + 14_000_000;

/// When the run is over.
const OVER_US: u64 = QUIET_US + 20_000_000;

/// The id that a shard of number 0 gives to its first session.
const FIRST_SESSION: i64 = (1 << 48) + 1;

/// The wall clock at the start, milliseconds since the epoch.
const WALL_MS: i64 = 1_800_000_000_000;

/// What is to happen.
enum Event {
    Client(usize),
    /// Bytes from a client have arrived; the first open the connection.
    ToProxy {
        connection: usize,
        bytes: BytesMut,
    },
    ProxyHangsUp {
        connection: usize,
    },
    ToClient {
        connection: usize,
        bytes: BytesMut,
    },
    ClientHangsUp {
        connection: usize,
    },
    OpenLink {
        proxy: usize,
        incarnation: u64,
    },
    LinkAtShard {
        link: u64,
    },
    LinkGone {
        link: u64,
    },
    LinkLost {
        proxy: usize,
        incarnation: u64,
    },
    ToShard {
        link: u64,
        requests: Vec<Request>,
    },
    ToFront {
        link: u64,
        what: Told,
    },
    Beat {
        proxy: usize,
    },
    Run {
        incarnation: u64,
        operation: Operation,
    },
    Completed {
        incarnation: u64,
        completion: Completion,
    },
    Turn {
        incarnation: u64,
    },
    Wake {
        incarnation: u64,
    },
    Start,
    Fault(FaultKind),
    DiskIsFast,
    DiskHasSpace,
    Quiet,
    Audit,
    Over,
}

/// What a link brings to a proxy.
#[derive(Debug)]
enum Told {
    Events(Vec<LinkEvent>),
    Closed,
}

/// A link as the network knows it.
struct LinkState {
    proxy: usize,
    proxy_incarnation: u64,
    resume_after: Option<Position>,
    /// The shard has answered that it is open.
    open: bool,
    /// Bytes do not overtake: nothing arrives before what was sent earlier.
    to_shard_us: u64,
    to_front_us: u64,
}

/// A socket as the network knows it.
struct Wire {
    client: usize,
    proxy: usize,
    proxy_incarnation: u64,
    to_proxy_us: u64,
    to_client_us: u64,
}

struct ProxyHost {
    proxy: Proxy,
    incarnation: u64,
    link: Option<u64>,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) swarm: Swarm,
    random: Random,
    schedule: Schedule<Event>,
    pub(crate) trace: Trace,
    pub(crate) counters: Counters,
    pub(crate) history: History,
    pub(crate) contacts: Contacts,
    pub(crate) ending: Ending,
    wall_offset_ms: i64,
    clients: Vec<Client>,
    wires: BTreeMap<usize, Wire>,
    proxies: Vec<ProxyHost>,
    /// The newest attachment of each session that each proxy was told of.
    grants: BTreeMap<(usize, i64), u64>,
    session_options: SessionOptions,
    /// The client that comes last, and what it still asks for.
    auditor: Option<usize>,
    /// Session, attachment and number of every write that came to the shard.
    written: BTreeSet<(i64, u64, u64)>,
    node: Node,
    node_state: node::NodeState,
    links: BTreeMap<u64, LinkState>,
    last_link: u64,
    disk: faults::DiskState,
    sabotage: Sabotage,
    violation: Option<Violation>,
    is_over: bool,
    /// The run was ended by damage that was told of: what was promised about the end does not hold.
    pub(crate) ended_by_damage: bool,
}

fn shard_options(swarm: &Swarm) -> ShardOptions {
    ShardOptions {
        shard: ShardDescriptor::whole("default", ShardId(0), SHARD_UUID),
        hash_key: 1,
        history_bytes_max: swarm.history_bytes_max,
        node: NodeId(1),
        genesis_secret: [7; 32],
        seed: tree_seed(),
        session_tick_ms: swarm.session_tick_ms,
        reap_interval_ms: swarm.reap_interval_ms,
        reap_records_max: 100,
        checkpoint_dirty_bytes: swarm.checkpoint_dirty_bytes,
        checkpoint_commands: swarm.checkpoint_commands,
    }
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let swarm = Swarm::draw(&mut random, bug);
        let sabotage = Sabotage::new(bug);
        let node = Node::new(NodeOptions {
            shard: shard_options(&swarm),
            log: swarm.log.clone(),
            seed: random.next_u64(),
            disk_lie: sabotage.disk_lie(),
            store_lie: sabotage.store_lie(),
        });
        let session_options = SessionOptions {
            min_timeout_ms: 2_000,
            extended_types_enabled: true,
            view_cache_bytes: swarm.view_cache_bytes,
            ..SessionOptions::default()
        };
        let habits = swarm.clients.iter().cloned().enumerate();
        let clients = habits
            .map(|(number, habits)| Client::new(number, random.fork(), habits))
            .collect();
        let mut host = || ProxyHost {
            proxy: Proxy::new(SessionOptions {
                nonce_seed: random.next_u64(),
                ..session_options.clone()
            }),
            incarnation: 0,
            link: None,
        };
        let mut world = Self {
            proxies: (0..swarm.proxies).map(|_| host()).collect(),
            schedule: Schedule::new(random.fork()),
            random,
            swarm,
            trace,
            counters: Counters::default(),
            history: History::default(),
            contacts: Contacts::default(),
            ending: Ending::default(),
            wall_offset_ms: 0,
            clients,
            wires: BTreeMap::new(),
            grants: BTreeMap::new(),
            session_options,
            auditor: None,
            written: BTreeSet::new(),
            node,
            node_state: node::NodeState::default(),
            links: BTreeMap::new(),
            last_link: 0,
            disk: faults::DiskState::default(),
            sabotage,
            violation: None,
            is_over: false,
            ended_by_damage: false,
        };
        world.plan_run();
        world
    }

    fn plan_run(&mut self) {
        self.contacts.wall_ms.push((0, WALL_MS));
        self.schedule.at(0, Event::Start);
        for proxy in 0..self.proxies.len() {
            let incarnation = 0;
            self.schedule
                .at(1_000, Event::OpenLink { proxy, incarnation });
            self.schedule.at(2_000, Event::Beat { proxy });
        }
        for client in 0..self.clients.len() {
            let at_us = self.random.between(100_000, 500_000);
            self.schedule.at(at_us, Event::Client(client));
        }
        for (at_us, kind) in self.swarm.faults.clone() {
            self.schedule.at(at_us, Event::Fault(kind));
        }
        self.schedule.at(BUSY_US, Event::Quiet);
        self.schedule.at(QUIET_US, Event::Audit);
        self.schedule.at(OVER_US, Event::Over);
    }

    /// What must be true now, by the log.
    pub(crate) fn truth(&mut self) -> Truth {
        let disk = self.node.disk().clone();
        if !self.ended_by_damage
            && let Err(what) = self.node.chronicle().absorb(&disk)
        {
            self.found(Violation::new("the log can be read", what));
        }
        let entries = self.node.chronicle().entries();
        let entries = (1..).zip(&entries);
        let logged: Vec<LoggedEntry> = entries
            .map(|(offset, entry)| LoggedEntry::new(offset, entry))
            .collect();
        Truth::replay(&logged, &self.history, FIRST_SESSION)
    }

    /// Runs to the end, or to the first violation that shows while it runs.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        while !self.is_over
            && let Some(event) = self.schedule.pop()
        {
            self.handle(event);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.node.check_state()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Client(client) => self.client_acts(client),
            Event::ToProxy { connection, bytes } => self.bytes_to_proxy(connection, &bytes),
            Event::ProxyHangsUp { connection } => self.proxy_hung_up(connection),
            Event::ToClient { connection, bytes } => self.bytes_to_client(connection, &bytes),
            Event::ClientHangsUp { connection } => self.client_hung_up(connection),
            Event::OpenLink { proxy, incarnation } => self.open_link(proxy, incarnation),
            Event::LinkAtShard { link } => self.link_at_shard(link),
            Event::LinkGone { link } => self.link_gone(link),
            Event::LinkLost { proxy, incarnation } => self.link_lost(proxy, incarnation),
            Event::ToShard { link, requests } => self.requests_to_shard(link, requests),
            Event::ToFront { link, what } => self.events_to_front(link, what),
            Event::Beat { proxy } => self.beat(proxy),
            Event::Run {
                incarnation,
                operation,
            } => self.run_operation(incarnation, operation),
            Event::Completed {
                incarnation,
                completion,
            } => self.completed(incarnation, completion),
            Event::Turn { incarnation } => self.turn(incarnation),
            Event::Wake { incarnation } => self.wake(incarnation),
            Event::Start => self.start_node(),
            Event::Fault(kind) => self.fault(kind),
            Event::DiskIsFast => self.disk_is_fast(),
            Event::DiskHasSpace => self.disk_has_space(),
            Event::Quiet => self.become_quiet(),
            Event::Audit => self.audit(),
            Event::Over => self.end(),
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic_us: self.schedule.now_us(),
            wall_ms: WALL_MS + self.wall_offset_ms + (self.schedule.now_us() / 1_000) as i64,
        }
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.schedule.now_us()
    }

    fn say(&mut self, what: fmt::Arguments<'_>) {
        self.trace.line(self.schedule.now_us(), what);
    }

    /// The first one counts: what follows may come from it.
    fn found(&mut self, violation: Violation) {
        if self.violation.is_none() {
            self.violation = Some(violation);
        }
    }

    /// How long something takes through the network.
    fn network_us(&mut self) -> u64 {
        self.random.between(20, self.swarm.network_us)
    }
}
