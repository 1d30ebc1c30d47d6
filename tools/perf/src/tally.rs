//! What one thread has measured.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies are kept with this many significant digits, from a microsecond up to an hour.
const SIGNIFICANT_DIGITS: u8 = 3;
const LATENCY_NS_MIN: u64 = 1_000;
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// Wrong replies of which the text is kept.
const SAMPLES_MAX: usize = 10;

/// What is measured apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Get,
    Set,
    Create,
    Multi,
    /// A watch event; its latency counts from the moment the setData was due.
    Event,
    Session,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Get,
        Self::Set,
        Self::Create,
        Self::Multi,
        Self::Event,
        Self::Session,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Create => "create",
            Self::Multi => "multi",
            Self::Event => "event",
            Self::Session => "session",
        }
    }
}

pub(crate) type Latencies = Histogram<u64>;

/// Latencies, errors and wrong replies. Only operations that were due within the window are in the latencies;
/// errors and wrong replies are counted from the first byte to the last.
pub(crate) struct Tally {
    latencies: [Option<Box<Latencies>>; Kind::ALL.len()],
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) mismatches: u64,
    pub(crate) samples: Vec<String>,
    pub(crate) reconnects: u64,
    /// Operations that were due in the window and never sent, or sent and never answered.
    pub(crate) unanswered: u64,
    /// Operations that finished in or after the window, and the time of the last of them.
    pub(crate) finished: u64,
    pub(crate) last_finish_ns: u64,
    pub(crate) longest_gap_ns: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            latencies: [const { None }; Kind::ALL.len()],
            errors: BTreeMap::new(),
            mismatches: 0,
            samples: Vec::new(),
            reconnects: 0,
            unanswered: 0,
            finished: 0,
            last_finish_ns: 0,
            longest_gap_ns: 0,
        }
    }

    pub(crate) fn latencies(&self, kind: Kind) -> Option<&Latencies> {
        self.latencies[kind as usize].as_deref()
    }

    /// An operation that was answered.
    pub(crate) fn finish(&mut self, kind: Kind, due_ns: u64, now_ns: u64) {
        self.wait(kind, due_ns, now_ns);
        self.finished += 1;
        self.last_finish_ns = now_ns;
    }

    /// An operation that had to wait at least this long; not one that finished.
    pub(crate) fn wait(&mut self, kind: Kind, due_ns: u64, now_ns: u64) {
        let latencies =
            self.latencies[kind as usize].get_or_insert_with(|| Box::new(empty_latencies()));
        latencies.saturating_record(now_ns.saturating_sub(due_ns).max(LATENCY_NS_MIN));
    }

    pub(crate) fn error(&mut self, name: String) {
        *self.errors.entry(name).or_default() += 1;
    }

    pub(crate) fn mismatch(&mut self, text: impl FnOnce() -> String) {
        self.mismatches += 1;
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(text());
        }
    }

    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Adds what another thread has measured.
    pub(crate) fn add(&mut self, other: &Self) {
        for kind in Kind::ALL {
            if let Some(theirs) = other.latencies(kind) {
                let ours = self.latencies[kind as usize]
                    .get_or_insert_with(|| Box::new(empty_latencies()));
                add_latencies(ours, theirs);
            }
        }
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        self.mismatches += other.mismatches;
        let room = SAMPLES_MAX - self.samples.len();
        self.samples
            .extend(other.samples.iter().take(room).cloned());
        self.reconnects += other.reconnects;
        self.unanswered += other.unanswered;
        self.finished += other.finished;
        self.last_finish_ns = self.last_finish_ns.max(other.last_finish_ns);
        self.longest_gap_ns = self.longest_gap_ns.max(other.longest_gap_ns);
    }

    /// The latencies of all kinds together.
    pub(crate) fn all_latencies(&self) -> Latencies {
        let mut all = empty_latencies();
        for kind in Kind::ALL {
            if let Some(latencies) = self.latencies(kind) {
                add_latencies(&mut all, latencies);
            }
        }
        all
    }
}

fn empty_latencies() -> Latencies {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
        .unwrap_or_else(|_| unreachable!("the bounds are constants that the histogram allows"))
}

/// Both have the same bounds, so adding cannot fail.
fn add_latencies(to: &mut Latencies, from: &Latencies) {
    if let Err(fault) = to.add(from) {
        unreachable!("histograms of equal bounds: {fault}");
    }
}
