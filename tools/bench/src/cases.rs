//! The cases under load, each a row or more of the table of aims.

use crate::load::Measured;
use crate::report::{Aim, Pick, Unit};

/// What is read off a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Operations per second; for the watch case events, not sets.
    Rate,
    P50,
    P99,
    LongestGap,
}

impl Reading {
    pub(super) fn of(self, measured: &Measured) -> f64 {
        let report = &measured.report;
        match self {
            Self::Rate => rate(measured),
            Self::P50 => report.latency.p50_us / 1e3,
            Self::P99 => report.latency.p99_us / 1e3,
            Self::LongestGap => report.longest_gap_ms,
        }
    }

    /// Not worse by more than 5 %.
    pub(super) fn no_worse(self) -> Aim {
        match self {
            Self::Rate => Aim::RatioAtLeast(0.95),
            Self::P50 | Self::P99 | Self::LongestGap => Aim::RatioAtMost(1.05),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "throughput",
            Self::P50 => "latency p50",
            Self::P99 => "latency p99",
            Self::LongestGap => "longest gap",
        }
    }

    pub(super) fn pick(self) -> Pick {
        match self {
            // A pause that came in one round of three is a pause.
            Self::LongestGap => Pick::Largest,
            _ => Pick::Median,
        }
    }
}

/// Operations per second. Where there are events, they are what counts.
pub(super) fn rate(measured: &Measured) -> f64 {
    let report = &measured.report;
    match report.latency_by_kind.get("event") {
        Some(events) => events.count as f64 / report.elapsed_s,
        None => report.operations_per_s,
    }
}

/// A load that both servers get in turn.
#[derive(Debug, Clone)]
pub(super) struct LoadCase {
    /// For `--cases`.
    pub name: &'static str,
    pub title: &'static str,
    pub workload: &'static str,
    pub connections: u32,
    pub depth: u32,
    /// Processes beside the load that use all the processor time they get.
    pub busy: u32,
    pub rate_unit: Unit,
    pub measures: &'static [(Reading, Option<Aim>)],
}

const AT_LEAST_3: Option<Aim> = Some(Aim::RatioAtLeast(3.0));

pub(super) const LOAD_CASES: &[LoadCase] = &[
    LoadCase {
        name: "get-10x16",
        title: "get 10 × 16",
        workload: "get",
        connections: 10,
        depth: 16,
        busy: 0,
        rate_unit: Unit::OperationsPerS,
        measures: &[(Reading::Rate, Some(Aim::RatioAtLeast(4.0)))],
    },
    LoadCase {
        name: "get-1x1",
        title: "get 1 × 1",
        workload: "get",
        connections: 1,
        depth: 1,
        busy: 0,
        rate_unit: Unit::OperationsPerS,
        measures: &[
            (Reading::P50, Some(Aim::RatioAtMost(0.5))),
            (Reading::Rate, None),
        ],
    },
    LoadCase {
        name: "get-100x1",
        title: "get 100 × 1",
        workload: "get",
        connections: 100,
        depth: 1,
        busy: 0,
        rate_unit: Unit::OperationsPerS,
        measures: &[(Reading::Rate, Some(Aim::RatioAtLeast(1.3)))],
    },
    LoadCase {
        name: "set-10x16",
        title: "set 10 × 16",
        workload: "set",
        connections: 10,
        depth: 16,
        busy: 0,
        rate_unit: Unit::OperationsPerS,
        measures: &[(Reading::Rate, AT_LEAST_3)],
    },
    LoadCase {
        name: "set-1x1",
        title: "set 1 × 1",
        workload: "set",
        connections: 1,
        depth: 1,
        busy: 0,
        rate_unit: Unit::OperationsPerS,
        measures: &[
            (Reading::Rate, Some(Aim::RatioAtLeast(1.5))),
            (Reading::P50, Some(Aim::RatioAtMost(2.0 / 3.0))),
        ],
    },
    beside_busy("set-1x1-busy1", "set 1 × 1 beside 1 busy process", 1),
    beside_busy("set-1x1-busy2", "set 1 × 1 beside 2 busy processes", 2),
    beside_busy("set-1x1-busy4", "set 1 × 1 beside 4 busy processes", 4),
    LoadCase {
        name: "set-100x1",
        title: "set 100 × 1",
        workload: "set",
        connections: 100,
        depth: 1,
        busy: 0,
        rate_unit: Unit::OperationsPerS,
        measures: &[(Reading::Rate, Some(Aim::RatioAtLeast(1.0)))],
    },
    LoadCase {
        name: "create-10x16",
        title: "create 10 × 16",
        workload: "create",
        connections: 10,
        depth: 16,
        busy: 0,
        rate_unit: Unit::OperationsPerS,
        measures: &[
            (Reading::Rate, AT_LEAST_3),
            (Reading::P99, Some(Aim::AtMost(10.0))),
            (Reading::LongestGap, Some(Aim::AtMost(50.0))),
        ],
    },
    LoadCase {
        name: "multi-10",
        title: "multi of 10 sets, 10 × 16",
        workload: "multi",
        connections: 10,
        depth: 16,
        busy: 0,
        rate_unit: Unit::MultisPerS,
        measures: &[(Reading::Rate, AT_LEAST_3)],
    },
    LoadCase {
        name: "mixed-90",
        title: "90 % get, 10 % set, 10 × 16",
        workload: "mixed",
        connections: 10,
        depth: 16,
        busy: 0,
        rate_unit: Unit::OperationsPerS,
        measures: &[(Reading::Rate, AT_LEAST_3)],
    },
    LoadCase {
        name: "watch-100",
        title: "watch fan-out to 100, 1 znode",
        workload: "watch",
        connections: 100,
        depth: 1,
        busy: 0,
        rate_unit: Unit::EventsPerS,
        measures: &[(Reading::Rate, Some(Aim::RatioAtLeast(5.0)))],
    },
    LoadCase {
        name: "watch-100x16",
        title: "watch fan-out to 100, 16 znodes at once",
        workload: "watch",
        connections: 100,
        depth: 16,
        busy: 0,
        rate_unit: Unit::EventsPerS,
        measures: &[(Reading::Rate, Some(Aim::RatioAtLeast(5.0)))],
    },
    LoadCase {
        name: "session-10",
        title: "session open + close, 10 at once",
        workload: "session",
        connections: 10,
        depth: 1,
        busy: 0,
        rate_unit: Unit::SessionsPerS,
        measures: &[(Reading::Rate, Some(Aim::RatioAtLeast(2.0)))],
    },
];

/// One write at a time while others want the processor too: what a server that waits by turning
/// round and round loses there.
const fn beside_busy(name: &'static str, title: &'static str, busy: u32) -> LoadCase {
    LoadCase {
        name,
        title,
        workload: "set",
        connections: 1,
        depth: 1,
        busy,
        rate_unit: Unit::OperationsPerS,
        measures: &[
            (Reading::P50, Some(Aim::RatioAtMost(1.0))),
            (Reading::Rate, None),
        ],
    }
}

/// The cases that need a populated tree.
pub(super) const MEMORY: &str = "memory";
pub(super) const DISK: &str = "disk";
pub(super) const RESTART: &str = "restart";
/// The end of a session with very many znodes.
pub(super) const SESSION_END: &str = "session-end";

/// Names that `--cases` knows.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let loads = LOAD_CASES.iter().map(|case| case.name);
    loads.chain([SESSION_END, MEMORY, DISK, RESTART])
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::load::{Latency, PerfReport};

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let unique: BTreeSet<_> = names().collect();
        assert_eq!(unique.len(), names().count());
    }

    #[test]
    fn the_rate_of_a_fan_out_counts_events_without_sets() {
        let event = Latency {
            count: 400,
            ..Latency::default()
        };
        let mut measured = Measured {
            report: PerfReport {
                elapsed_s: 2.0,
                operations_per_s: 202.0,
                latency_by_kind: BTreeMap::from([("event".to_owned(), event)]),
                ..PerfReport::default()
            },
            server_cores: None,
            generator_cores: None,
        };
        assert!((rate(&measured) - 200.0).abs() < 1e-9);
        measured.report.latency_by_kind.clear();
        assert!((rate(&measured) - 202.0).abs() < 1e-9);
    }
}
