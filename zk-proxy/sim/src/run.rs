//! One seed from beginning to end, judged.

use std::collections::BTreeSet;

use oxkeeper_sim::{Counters, Trace, Violation};
use oxkeeper_wire::ErrorCode;

use crate::check::check;
use crate::history::{History, Incoming};
use crate::sabotage::Bug;
use crate::truth::Truth;
use crate::world::World;

/// What counters must not stay zero over a batch of seeds, or it has proved nothing.
pub const MUST_HAPPEN: &[&str] = &[
    "requests",
    "replies",
    "notifications",
    "connections",
    "faults",
    "checkpoints",
    "crashes amid a checkpoint",
    "crashes in recovery",
    "expired sessions",
    "closed sessions",
    "reattached sessions",
    "refused sessions",
    "resumes",
    "gaps",
    "re-sent writes",
    "commands that came again",
    "cut tails",
    "damage refused",
    "full disks",
    "space again",
    "writes refused for lack of space",
    "postponed checkpoints",
];

/// What a run is to do beside running.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub bug: Option<Bug>,
    pub trace: bool,
}

/// What came of a seed.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub violation: Option<Violation>,
    pub counters: Counters,
    /// Empty unless it was asked for.
    pub trace: String,
}

/// Runs a seed and judges it. A panic of the product is a violation like others.
pub fn run(seed: u64, options: Options) -> Report {
    let result = std::panic::catch_unwind(|| run_unguarded(seed, options));
    result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let what = text.unwrap_or_else(|| "without a word".to_owned());
        Report {
            seed,
            violation: Some(Violation::new("nothing panics", what)),
            counters: Counters::default(),
            trace: String::new(),
        }
    })
}

fn run_unguarded(seed: u64, options: Options) -> Report {
    let trace = match options.trace {
        true => Trace::on(),
        false => Trace::off(),
    };
    let mut world = World::new(seed, options.bug, trace);
    let result = world.run().and_then(|()| judge(&mut world));
    let mut counters = std::mem::take(&mut world.counters);
    count(&world.history, &mut counters);
    if let Err(violation) = &result {
        let now_us = world.now_us();
        world
            .trace
            .line(now_us, format_args!("violation: {violation}"));
    }
    Report {
        seed,
        violation: result.err(),
        counters,
        trace: world.trace.into_text(),
    }
}

fn judge(world: &mut World) -> Result<(), Violation> {
    let truth = world.truth();
    count_truth(&truth, &mut world.counters);
    check(&world.history, &truth)?;
    let tick_ms = u64::from(world.swarm.session_tick_ms);
    if world.ended_by_damage {
        return Ok(());
    }
    world.contacts.check(&world.history, &truth, tick_ms)?;
    world.ending.check()
}

fn count_truth(truth: &Truth, counters: &mut Counters) {
    let expired = truth.ends.values().filter(|end| end.expired).count();
    counters.add("expired sessions", expired as u64);
    counters.add("closed sessions", (truth.ends.len() - expired) as u64);
    counters.add("commands that came again", truth.repeated);
    counters.add("zxids", truth.last_zxid() as u64);
}

fn count(history: &History, counters: &mut Counters) {
    let granted = history.connections.iter();
    let sessions: BTreeSet<i64> = granted.filter_map(|it| it.session()).collect();
    counters.add("sessions", sessions.len() as u64);
    for connection in &history.connections {
        counters.add("requests", connection.sent.len() as u64);
        let reattached = connection.asked.session != 0 && connection.session().is_some();
        counters.add("reattached sessions", u64::from(reattached));
        let granted = connection.granted.as_ref();
        let refused = granted.is_some_and(|granted| granted.session == 0);
        counters.add("refused sessions", u64::from(refused));
        for received in &connection.received {
            counters.count(match &received.what {
                Incoming::Reply { reply, .. } if reply.err == ErrorCode::THROTTLED_OP.0 => {
                    "writes refused for lack of space"
                }
                Incoming::Reply { .. } => "replies",
                Incoming::Notification(_) => "notifications",
                Incoming::Nonsense(_) => "nonsense",
            });
        }
    }
}
