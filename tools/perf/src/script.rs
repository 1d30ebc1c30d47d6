//! The load of one connection: which request comes next, and what its reply must be.
//!
//! A slot is a znode that only one connection writes, so that every version is known in advance: replies come in
//! request order, and the version in a reply must be the last acknowledged one plus one. Other connections may read
//! the slot; they check that the data is that of the version in the Stat.

use std::borrow::Cow;
use std::sync::Arc;

use oxkeeper_wire::client::{MultiResult, Reply};
use oxkeeper_wire::{
    AclRecord, CreateRequest, ErrorCode, MultiOp, OpCode, Request, SetDataRequest, Stat,
};

use crate::connection::Connection;
use crate::content::{is_value, put_created_path, put_slot_path, put_value, slot_path};
use crate::options::{PerfOptions, Workload};
use crate::tally::Kind;

/// What a reply must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Get {
        slot: u64,
    },
    /// `own` counts the connection's own slots.
    Set {
        own: usize,
    },
    Create {
        number: u64,
    },
    /// setData on this own slot and the following ones, in turn.
    Multi {
        first: usize,
    },
    /// exists, to learn which version an own slot has after an error. Not measured.
    Locate {
        own: usize,
    },
    /// The watch workload's requests.
    Arm {
        watched: usize,
    },
    ArmPersistent {
        watched: usize,
    },
    Fire {
        watched: usize,
    },
    CloseSession,
}

impl Expect {
    /// Under which kind it is measured, if at all.
    pub(crate) fn kind(self) -> Option<Kind> {
        match self {
            Self::Get { .. } => Some(Kind::Get),
            Self::Set { .. } | Self::Fire { .. } => Some(Kind::Set),
            Self::Create { .. } => Some(Kind::Create),
            Self::Multi { .. } => Some(Kind::Multi),
            Self::Locate { .. }
            | Self::Arm { .. }
            | Self::ArmPersistent { .. }
            | Self::CloseSession => None,
        }
    }
}

/// A slot that this connection writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OwnSlot {
    /// The version that the last set in flight will make; equal to `acknowledged` if there is none.
    sent: i32,
    acknowledged: i32,
    certainty: Certainty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    Known,
    /// The connection was lost with sets in flight: a prefix of them has been applied.
    Prefix,
    /// A set was answered with an error: version unknown.
    Unknown,
    /// The version is known again, the data belongs to another version until the next set.
    DataUnknown,
}

pub(crate) struct Script {
    options: Arc<PerfOptions>,
    connection: usize,
    run: u64,
    own: Vec<OwnSlot>,
    next_own: usize,
    /// Created paths, for the cleanup.
    pub(crate) created: u64,
    dice: u64,
    // Scratch, kept for its capacity.
    path: String,
    value: Vec<u8>,
}

impl Script {
    /// `versions` are those of all slots at the start.
    pub(crate) fn new(
        options: &Arc<PerfOptions>,
        connection: usize,
        run: u64,
        versions: &[i32],
    ) -> Self {
        let own = versions
            .iter()
            .skip(connection)
            .step_by(options.connections)
            .map(|&version| OwnSlot {
                sent: version,
                acknowledged: version,
                certainty: Certainty::Known,
            });
        Self {
            connection,
            run,
            own: own.collect(),
            next_own: 0,
            created: 0,
            dice: (connection as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            path: String::new(),
            value: Vec::new(),
            options: Arc::clone(options),
        }
    }

    /// Appends the next request of the workload. False if it is one that is not measured, put in before it.
    pub(crate) fn send_next(
        &mut self,
        connection: &mut Connection,
        due_ns: u64,
        now_ns: u64,
    ) -> bool {
        let mut workload = self.options.workload;
        if workload == Workload::Mixed && self.roll(100) < u64::from(self.options.read_percent) {
            workload = Workload::Get;
        }
        match workload {
            Workload::Get => self.send_get(connection, due_ns, now_ns),
            Workload::Create => self.send_create(connection, due_ns, now_ns),
            Workload::Multi => self.send_multi(connection, due_ns, now_ns),
            _ => self.send_set(connection, due_ns, now_ns),
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        // The high half of a product spreads 32 random bits over any number of sides.
        ((self.dice >> 32) * sides) >> 32
    }

    fn slot_of(&self, own: usize) -> u64 {
        (own * self.options.connections + self.connection) as u64
    }

    fn take_own(&mut self) -> usize {
        let own = self.next_own;
        self.next_own = (own + 1) % self.own.len();
        own
    }

    fn send_get(&mut self, connection: &mut Connection, due_ns: u64, now_ns: u64) -> bool {
        let slot = self.roll(self.options.znodes);
        put_slot_path(&mut self.path, &self.options.root, slot);
        let request = Request::GetData {
            path: Some(Cow::Borrowed(&self.path)),
            watch: false,
        };
        connection.send(&request, Expect::Get { slot }, due_ns, now_ns);
        true
    }

    fn send_set(&mut self, connection: &mut Connection, due_ns: u64, now_ns: u64) -> bool {
        let own = self.take_own();
        if self.send_locate(own, connection, due_ns, now_ns) {
            return false;
        }
        let slot = self.slot_of(own);
        put_slot_path(&mut self.path, &self.options.root, slot);
        self.own[own].sent += 1;
        self.value.clear();
        put_value(
            &mut self.value,
            slot,
            self.own[own].sent,
            self.options.value_bytes,
        );
        let path = Some(Cow::Borrowed(&*self.path));
        let request = Request::SetData(SetDataRequest {
            path,
            data: Some(&self.value),
            version: -1,
        });
        connection.send(&request, Expect::Set { own }, due_ns, now_ns);
        true
    }

    /// A slot of unknown version must be located before the next set. Sets in flight are answered before that is.
    fn send_locate(
        &mut self,
        own: usize,
        connection: &mut Connection,
        due_ns: u64,
        now_ns: u64,
    ) -> bool {
        if !matches!(
            self.own[own].certainty,
            Certainty::Unknown | Certainty::Prefix
        ) {
            return false;
        }
        let slot = self.slot_of(own);
        put_slot_path(&mut self.path, &self.options.root, slot);
        let request = Request::Exists {
            path: Some(Cow::Borrowed(&self.path)),
            watch: false,
        };
        connection.send(&request, Expect::Locate { own }, due_ns, now_ns);
        true
    }

    fn send_create(&mut self, connection: &mut Connection, due_ns: u64, now_ns: u64) -> bool {
        let number = self.created;
        self.created += 1;
        put_created_path(
            &mut self.path,
            &self.options.root,
            self.run,
            self.connection,
            number,
        );
        self.value.clear();
        put_value(&mut self.value, number, 0, self.options.value_bytes);
        let create = CreateRequest {
            op: OpCode::CREATE,
            path: Some(Cow::Borrowed(&self.path)),
            data: Some(&self.value),
            acl: Some(vec![AclRecord::open()]),
            flags: 0,
            ttl_ms: None,
        };
        connection.send(
            &Request::Create(create),
            Expect::Create { number },
            due_ns,
            now_ns,
        );
        true
    }

    fn send_multi(&mut self, connection: &mut Connection, due_ns: u64, now_ns: u64) -> bool {
        let (first, count) = (self.next_own, self.options.multi_ops);
        for nth in 0..count.min(self.own.len()) {
            let own = (first + nth) % self.own.len();
            if self.send_locate(own, connection, due_ns, now_ns) {
                return false;
            }
        }
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        let mut slots = Vec::with_capacity(count);
        for _ in 0..count {
            let own = self.take_own();
            self.own[own].sent += 1;
            slots.push(self.slot_of(own));
            put_value(
                &mut value,
                self.slot_of(own),
                self.own[own].sent,
                self.options.value_bytes,
            );
        }
        let bytes = self.options.value_bytes;
        let operation = |(nth, &slot): (usize, &u64)| {
            let path = Some(Cow::Owned(slot_path(&self.options.root, slot)));
            let data = Some(&value[nth * bytes..(nth + 1) * bytes]);
            MultiOp::SetData(SetDataRequest {
                path,
                data,
                version: -1,
            })
        };
        let request = Request::Multi(slots.iter().enumerate().map(operation).collect());
        connection.send(&request, Expect::Multi { first }, due_ns, now_ns);
        self.value = value;
        true
    }

    /// The connection is lost: what was in flight may have been applied, up to some point.
    pub(crate) fn lose(&mut self, expect: Expect) {
        match expect {
            Expect::Set { own } => self.own[own].certainty = Certainty::Prefix,
            Expect::Multi { first } => {
                for nth in 0..self.options.multi_ops {
                    let own = (first + nth) % self.own.len();
                    self.own[own].certainty = Certainty::Prefix;
                }
            }
            _ => {}
        }
    }

    /// A reply with an error code: the version of what it would have written is now unknown.
    pub(crate) fn refuse(&mut self, expect: Expect) {
        match expect {
            Expect::Set { own } => self.own[own].certainty = Certainty::Unknown,
            Expect::Multi { first } => {
                for nth in 0..self.options.multi_ops {
                    let own = (first + nth) % self.own.len();
                    self.own[own].certainty = Certainty::Unknown;
                }
            }
            _ => {}
        }
    }

    /// Checks a successful reply; the text says what is wrong with it.
    pub(crate) fn check(&mut self, expect: Expect, reply: &Reply<'_>) -> Result<(), String> {
        match expect {
            Expect::Get { slot } => self.check_get(slot, reply),
            Expect::Set { own } => {
                let stat = reply
                    .stat()
                    .map_err(|fault| format!("setData reply: {fault}"))?;
                self.check_set(own, &stat, reply.zxid)
            }
            Expect::Create { number } => self.check_create(number, reply),
            Expect::Multi { first } => self.check_multi(first, reply),
            Expect::Locate { own } => self.check_locate(own, reply),
            _ => Err(format!("{expect:?} does not belong to a script")),
        }
    }

    fn check_get(&self, slot: u64, reply: &Reply<'_>) -> Result<(), String> {
        let (data, stat) = reply
            .data_and_stat()
            .map_err(|fault| format!("getData reply: {fault}"))?;
        let data = data.ok_or_else(|| format!("slot {slot}: null data"))?;
        if data.len() != self.options.value_bytes || stat.data_length as usize != data.len() {
            return Err(format!(
                "slot {slot}: {} bytes, dataLength {}",
                data.len(),
                stat.data_length
            ));
        }
        check_plain(slot, &stat)?;
        let own = (slot as usize % self.options.connections == self.connection)
            .then(|| self.own[slot as usize / self.options.connections]);
        if let Some(own) = own {
            match own.certainty {
                Certainty::Known if stat.version != own.acknowledged => {
                    return Err(format!(
                        "slot {slot}: version {}, not {}",
                        stat.version, own.acknowledged
                    ));
                }
                Certainty::Unknown | Certainty::DataUnknown => return Ok(()),
                Certainty::Known | Certainty::Prefix => {}
            }
        }
        if is_value(data, slot, stat.version) {
            Ok(())
        } else {
            Err(format!(
                "slot {slot}: the data is not that of version {}",
                stat.version
            ))
        }
    }

    fn check_set(&mut self, own: usize, stat: &Stat, zxid: i64) -> Result<(), String> {
        let slot = self.slot_of(own);
        let value_bytes = self.options.value_bytes;
        let state = &mut self.own[own];
        if state.certainty == Certainty::Unknown {
            return Ok(());
        }
        let expected = state.acknowledged + 1;
        state.acknowledged = stat.version;
        if state.certainty == Certainty::DataUnknown {
            state.certainty = Certainty::Known;
        }
        if stat.version != expected {
            state.certainty = Certainty::Unknown;
            return Err(format!(
                "slot {slot}: version {} after a set, not {expected}",
                stat.version
            ));
        }
        if stat.data_length as usize != value_bytes {
            return Err(format!(
                "slot {slot}: dataLength {}, not {value_bytes}",
                stat.data_length
            ));
        }
        if stat.mzxid > zxid {
            return Err(format!(
                "slot {slot}: mzxid {:#x} after the reply's {zxid:#x}",
                stat.mzxid
            ));
        }
        check_plain(slot, stat)
    }

    fn check_create(&mut self, number: u64, reply: &Reply<'_>) -> Result<(), String> {
        let path = reply
            .path()
            .map_err(|fault| format!("create reply: {fault}"))?;
        put_created_path(
            &mut self.path,
            &self.options.root,
            self.run,
            self.connection,
            number,
        );
        match path.as_deref() {
            Some(path) if path == self.path => Ok(()),
            other => Err(format!("created {other:?} instead of {}", self.path)),
        }
    }

    fn check_multi(&mut self, first: usize, reply: &Reply<'_>) -> Result<(), String> {
        let results = reply
            .multi_results()
            .map_err(|fault| format!("multi reply: {fault}"))?;
        if results.len() != self.options.multi_ops {
            return Err(format!(
                "{} results of {} in a multi",
                results.len(),
                self.options.multi_ops
            ));
        }
        for (nth, result) in results.iter().enumerate() {
            let own = (first + nth) % self.own.len();
            match result {
                MultiResult::DataSet(stat) => self.check_set(own, stat, reply.zxid)?,
                other => {
                    self.refuse(Expect::Multi { first });
                    return Err(format!("slot {}: {other:?} in a multi", self.slot_of(own)));
                }
            }
        }
        Ok(())
    }

    fn check_locate(&mut self, own: usize, reply: &Reply<'_>) -> Result<(), String> {
        let stat = reply
            .stat()
            .map_err(|fault| format!("exists reply: {fault}"))?;
        let slot = self.slot_of(own);
        let state = &mut self.own[own];
        let (certainty, possible) = (state.certainty, state.acknowledged..=state.sent);
        if !matches!(certainty, Certainty::Prefix | Certainty::Unknown) {
            // An earlier reply has told it already, and sets may be in flight again.
            return Ok(());
        }
        *state = OwnSlot {
            sent: stat.version,
            acknowledged: stat.version,
            certainty: Certainty::Known,
        };
        if certainty == Certainty::Unknown {
            state.certainty = Certainty::DataUnknown;
        } else if !possible.contains(&stat.version) {
            state.certainty = Certainty::DataUnknown;
            return Err(format!(
                "slot {slot}: version {} after reconnecting, not in {possible:?}",
                stat.version
            ));
        }
        Ok(())
    }
}

/// What holds for each znode of a run.
fn check_plain(slot: u64, stat: &Stat) -> Result<(), String> {
    let plain = stat.ephemeral_owner == 0
        && stat.num_children == 0
        && stat.cversion == 0
        && stat.aversion == 0;
    if plain
        && stat.czxid <= stat.mzxid
        && stat.pzxid == stat.czxid
        && stat.ctime_ms <= stat.mtime_ms
    {
        Ok(())
    } else {
        Err(format!("slot {slot}: unexpected {stat:?}"))
    }
}

/// How an error code is counted.
pub(crate) fn error_name(expect: Expect, code: ErrorCode) -> String {
    let operation = match expect {
        Expect::Locate { .. } => "exists",
        Expect::Arm { .. } => "getData with a watch",
        Expect::ArmPersistent { .. } => "addWatch",
        Expect::CloseSession => "closeSession",
        other => other.kind().map_or("request", Kind::name),
    };
    format!("{operation}: {code}")
}
