//! The result of a run, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::options::{PerfOptions, Workload};
use crate::tally::{Kind, Latencies, Tally};

/// Latency in microseconds, at percentiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    pub count: u64,
    pub min_us: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub p9999_us: f64,
    pub max_us: f64,
}

/// What a run measured; the crate's head says what each number means.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub workload: Workload,
    pub connections: usize,
    pub depth: usize,
    pub threads: usize,
    pub value_bytes: usize,
    pub znodes: u64,
    /// The rate that was asked for, per second; `None` is the closed loop.
    pub rate_per_s: Option<f64>,
    /// From the start of measuring to the last reply that counted.
    pub elapsed_s: f64,
    pub operations: u64,
    pub operations_per_s: f64,
    /// Writes per second inside multis, or znodes per second of populate.
    pub sub_operations_per_s: Option<f64>,
    pub latency: LatencySummary,
    /// By kind of operation, if there were several.
    pub latency_by_kind: BTreeMap<&'static str, LatencySummary>,
    pub longest_gap_ms: f64,
    /// Operations that were due and never sent or never answered.
    pub unanswered: u64,
    pub errors: BTreeMap<String, u64>,
    pub mismatches: u64,
    pub mismatch_samples: Vec<String>,
    pub reconnects: u64,
    /// Creating the znodes before, and deleting them after the run.
    pub setup_s: f64,
    pub cleanup_s: f64,
    /// Whether the run was flawless, as far as the options ask for it. Decides the exit code.
    pub passed: bool,
}

impl Report {
    /// `elapsed_ns` is the window's length, at most up to the last reply.
    pub(crate) fn new(options: &PerfOptions, tally: &Tally, elapsed_ns: u64) -> Self {
        let elapsed_s = elapsed_ns as f64 / 1e9;
        let per_s = |count: u64| {
            if elapsed_ns == 0 {
                0.0
            } else {
                count as f64 / elapsed_s
            }
        };
        let sub_operations = match options.workload {
            Workload::Multi => Some(per_s(tally.finished * options.multi_ops as u64)),
            Workload::Populate => Some(per_s(options.znodes)),
            _ => None,
        };
        // The setter's connection is not one that was asked for.
        let connections = options.connections - usize::from(options.workload == Workload::Watch);
        let errors_allowed = options.allow_errors || tally.errors.is_empty();
        Self {
            workload: options.workload,
            connections,
            depth: options.depth,
            threads: options.threads,
            value_bytes: options.value_bytes,
            znodes: options.znodes,
            rate_per_s: options.rate,
            elapsed_s,
            operations: tally.finished,
            operations_per_s: per_s(tally.finished),
            sub_operations_per_s: sub_operations,
            latency: summarise(&tally.all_latencies()),
            latency_by_kind: by_kind(tally),
            longest_gap_ms: tally.longest_gap_ns as f64 / 1e6,
            unanswered: tally.unanswered,
            errors: tally.errors.clone(),
            mismatches: tally.mismatches,
            mismatch_samples: tally.samples.clone(),
            reconnects: tally.reconnects,
            setup_s: 0.0,
            cleanup_s: 0.0,
            passed: tally.mismatches == 0 && errors_allowed && tally.finished > 0,
        }
    }
}

fn summarise(latencies: &Latencies) -> LatencySummary {
    if latencies.is_empty() {
        return LatencySummary::default();
    }
    let us = |ns: u64| ns as f64 / 1e3;
    let at = |quantile| us(latencies.value_at_quantile(quantile));
    LatencySummary {
        count: latencies.len(),
        min_us: us(latencies.min()),
        mean_us: latencies.mean() / 1e3,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        p9999_us: at(0.9999),
        max_us: us(latencies.max()),
    }
}

fn by_kind(tally: &Tally) -> BTreeMap<&'static str, LatencySummary> {
    let kinds: BTreeMap<_, _> = Kind::ALL
        .into_iter()
        .filter_map(|kind| Some((kind.name(), summarise(tally.latencies(kind)?))))
        .collect();
    if kinds.len() > 1 {
        kinds
    } else {
        BTreeMap::new()
    }
}

impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: f64| us / 1e3;
        write!(
            f,
            "min {:.3}  mean {:.3}  p50 {:.3}  p90 {:.3}  p99 {:.3}  p99.9 {:.3}  p99.99 {:.3}  max {:.3}",
            ms(self.min_us),
            ms(self.mean_us),
            ms(self.p50_us),
            ms(self.p90_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.p9999_us),
            ms(self.max_us)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loops = match self.rate_per_s {
            Some(rate) => format!("{rate}/s asked for"),
            None => format!("{} in flight on each", self.depth),
        };
        let name = format!("{:?}", self.workload).to_lowercase();
        writeln!(
            f,
            "{name}: {} connections, {loops}, {} B values",
            self.connections, self.value_bytes
        )?;
        write!(f, "  {:.0} operations/s", self.operations_per_s)?;
        if let Some(rate) = self.sub_operations_per_s {
            write!(f, ", {rate:.0} writes/s")?;
        }
        writeln!(f, "  ({} in {:.2} s)", self.operations, self.elapsed_s)?;
        writeln!(f, "  latency ms: {}", self.latency)?;
        for (kind, latency) in &self.latency_by_kind {
            writeln!(f, "    {kind} ({}): {latency}", latency.count)?;
        }
        writeln!(
            f,
            "  longest gap without a reply: {:.1} ms",
            self.longest_gap_ms
        )?;
        if self.unanswered > 0 || self.reconnects > 0 {
            writeln!(
                f,
                "  unanswered: {}, reconnects: {}",
                self.unanswered, self.reconnects
            )?;
        }
        for (error, count) in &self.errors {
            writeln!(f, "  {count} × {error}")?;
        }
        writeln!(f, "  wrong replies: {}", self.mismatches)?;
        for sample in &self.mismatch_samples {
            writeln!(f, "    {sample}")?;
        }
        let verdict = if self.passed { "passed" } else { "FAILED" };
        write!(
            f,
            "  {verdict} (set up in {:.1} s, cleaned up in {:.1} s)",
            self.setup_s, self.cleanup_s
        )
    }
}
