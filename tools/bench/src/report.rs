//! Figures, aims and verdicts, and the page made of them.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Machine;
use crate::server::Side;

/// Beyond this, figures are not fit to be published.
const NEIGHBOUR_CORES_MAX: f64 = 0.1;
/// A generator of one thread that uses this much of a core may have been the limit.
const GENERATOR_CORES_FULL: f64 = 0.9;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    OperationsPerS,
    MultisPerS,
    EventsPerS,
    SessionsPerS,
    Milliseconds,
    Seconds,
    Mebibytes,
    Bytes,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::OperationsPerS => format!("{}/s", grouped(value)),
            Self::MultisPerS => format!("{} multis/s", grouped(value)),
            Self::EventsPerS => format!("{} events/s", grouped(value)),
            Self::SessionsPerS => format!("{} sessions/s", grouped(value)),
            Self::Milliseconds if value < 1.0 => format!("{value:.3} ms"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Mebibytes => format!("{} MiB", grouped(value)),
            Self::Bytes => format!("{} B", grouped(value)),
        }
    }
}

/// Whole number with commas between thousands.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A ratio, with three digits that say something.
fn factor(ratio: f64) -> String {
    if ratio < 0.995 {
        format!("{ratio:.3}")
    } else {
        format!("{ratio:.2}")
    }
}

/// What a figure should be. Ratios are oxkeeper's figure over the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Aim {
    RatioAtLeast(f64),
    RatioAtMost(f64),
    /// Bound for oxkeeper's figure itself, in its unit.
    AtMost(f64),
}

/// How the figures of several rounds become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pick {
    Median,
    Largest,
}

impl Pick {
    fn of(self, figures: &[f64]) -> Option<f64> {
        match self {
            _ if figures.is_empty() => None,
            Self::Median => Some(median(figures)),
            Self::Largest => figures.iter().copied().max_by(f64::total_cmp),
        }
    }
}

/// Middle of the figures, or of the two in the middle; 0 if there are none.
pub(super) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (length, middle) if length.is_multiple_of(2) => {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        }
        (_, middle) => sorted[middle],
    }
}

/// Figures of oxkeeper and of what it is compared with, one per round, in the order of the rounds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    pub oxkeeper: Vec<f64>,
    pub reference: Vec<f64>,
}

impl Figures {
    pub(super) fn put(&mut self, side: Side, figure: f64) {
        match side {
            Side::Oxkeeper => self.oxkeeper.push(figure),
            Side::Reference => self.reference.push(figure),
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub case: String,
    pub measure: String,
    pub unit: Unit,
    pub pick: Pick,
    pub figures: Figures,
    pub aims: Vec<Aim>,
    /// CPU time of the server per operation, microseconds, if the case has operations.
    pub cpu_us: Figures,
    /// Cores that the generator's one thread used, at most.
    pub generator_cores: Figures,
}

impl Row {
    /// Without figures of CPU.
    pub(super) fn plain(case: String, measure: &str, unit: Unit, aims: &[Aim]) -> Self {
        Self {
            case,
            measure: measure.to_owned(),
            unit,
            pick: Pick::Median,
            figures: Figures::default(),
            aims: aims.to_vec(),
            cpu_us: Figures::default(),
            generator_cores: Figures::default(),
        }
    }

    fn oxkeeper(&self) -> Option<f64> {
        self.pick.of(&self.figures.oxkeeper)
    }

    fn reference(&self) -> Option<f64> {
        self.pick.of(&self.figures.reference)
    }

    fn ratio(&self) -> Option<f64> {
        let reference = self.reference().filter(|&figure| figure > 0.0)?;
        Some(self.oxkeeper()? / reference)
    }

    /// Smallest and largest ratio of a round.
    fn ratio_range(&self) -> Option<(f64, f64)> {
        let pairs = self.figures.oxkeeper.iter().zip(&self.figures.reference);
        let ratios: Vec<f64> = pairs
            .filter(|(_, reference)| **reference > 0.0)
            .map(|(oxkeeper, reference)| oxkeeper / reference)
            .collect();
        let least = ratios.iter().copied().min_by(f64::total_cmp)?;
        let most = ratios.iter().copied().max_by(f64::total_cmp)?;
        Some((least, most))
    }

    /// `None` without an aim; an aim that cannot be judged is missed.
    pub(super) fn is_met(&self) -> Option<bool> {
        let met = |aim: &Aim| match *aim {
            Aim::RatioAtLeast(bound) => self.ratio().is_some_and(|ratio| ratio >= bound),
            Aim::RatioAtMost(bound) => self.ratio().is_some_and(|ratio| ratio <= bound),
            Aim::AtMost(bound) => self.oxkeeper().is_some_and(|figure| figure <= bound),
        };
        (!self.aims.is_empty()).then(|| self.aims.iter().all(met))
    }

    fn aim_text(&self) -> String {
        let text = |aim: &Aim| match *aim {
            Aim::RatioAtLeast(bound) if bound < 1.0 => format!("≥ {bound}×"),
            Aim::RatioAtLeast(bound) => format!("≥ {bound:.1}×"),
            Aim::RatioAtMost(bound) => format!("≤ {}×", (bound * 1000.0).round() / 1000.0),
            Aim::AtMost(bound) => format!("≤ {}", self.unit.show(bound)),
        };
        let all: Vec<String> = self.aims.iter().map(text).collect();
        all.join(", ")
    }

    fn line(&self) -> String {
        let figure = |figure: Option<f64>| {
            figure.map_or_else(|| "–".to_owned(), |value| self.unit.show(value))
        };
        let ratio = match (self.ratio(), self.ratio_range()) {
            (Some(ratio), Some((least, most))) if self.figures.oxkeeper.len() > 1 => {
                let (least, most) = (factor(least), factor(most));
                format!("{} ({least} to {most})", factor(ratio))
            }
            (Some(ratio), _) => factor(ratio),
            _ => "–".to_owned(),
        };
        let verdict = match self.is_met() {
            None => "",
            Some(true) => "met",
            Some(false) => "**missed**",
        };
        let cpu = |figures: &[f64]| {
            let value = Pick::Median.of(figures);
            value.map_or_else(String::new, |value| format!("{value:.1}"))
        };
        format!(
            "| {} | {} | {} | {} | {ratio} | {} | {verdict} | {} | {} |",
            self.case,
            self.measure,
            figure(self.oxkeeper()),
            figure(self.reference()),
            self.aim_text(),
            cpu(&self.cpu_us.oxkeeper),
            cpu(&self.cpu_us.reference),
        )
    }
}

/// Everything that a run found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    pub date: String,
    pub command: String,
    pub rounds: u32,
    pub seconds: f64,
    pub machine: Machine,
    pub oxkeeper_version: String,
    /// What oxkeeper is compared with.
    pub reference: &'static str,
    pub zookeeper_version: String,
    pub java_version: String,
    pub java_heap: &'static str,
    /// Cores that others used on average while this ran.
    pub neighbour_cores: f64,
    pub rows: Vec<Row>,
    /// Cases that gave no figures, and why.
    pub failures: Vec<String>,
}

impl Outcome {
    /// The page for `docs/`.
    pub(super) fn page(&self) -> String {
        let mut page = String::from(
            "# Benchmarks: oxkeeper and Apache ZooKeeper\n\n\
             <!-- Written by `make bench`; changes by hand are lost with the next run. -->\n\n",
        );
        self.put_warnings(&mut page);
        page.push_str(&self.summary());
        page.push_str("\n\n");
        page.push_str(&self.table());
        page.push_str(HOW_TO_READ);
        self.put_circumstances(&mut page);
        page
    }

    pub(super) fn summary(&self) -> String {
        let judged: Vec<bool> = self.rows.iter().filter_map(Row::is_met).collect();
        let met = judged.iter().filter(|&&met| met).count();
        format!("{met} of {} aims met.", judged.len())
    }

    pub(super) fn table(&self) -> String {
        let reference = self.reference;
        let mut table = format!(
            "| case | measure | oxkeeper | {reference} | ratio (of each round) | aim | | oxkeeper CPU, µs/op | {reference} CPU, µs/op |\n\
             |---|---|---:|---:|---:|---|---|---:|---:|\n",
        );
        for row in &self.rows {
            table.push_str(&row.line());
            table.push('\n');
        }
        table
    }

    fn put_warnings(&self, page: &mut String) {
        for warning in self.warnings() {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(page, "> **{warning}**\n");
        }
    }

    /// What a reader must know before any figure.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.neighbour_cores > NEIGHBOUR_CORES_MAX {
            warnings.push(format!(
                "Not fit to be published: others used {:.2} of {} cores of the machine during the run.",
                self.neighbour_cores, self.machine.cores
            ));
        }
        for failure in &self.failures {
            // What follows the first line is a server's log, which has its place on the terminal.
            let reason = failure.lines().next().unwrap_or_default();
            warnings.push(format!("No figures: {reason}"));
        }
        warnings
    }

    fn put_circumstances(&self, page: &mut String) {
        let machine = &self.machine;
        let disk = &machine.disk;
        let _ = writeln!(page, "\n## The run\n\n| | |\n|---|---|");
        let mut put = |name: &str, value: String| {
            let _ = writeln!(page, "| {name} | {value} |");
        };
        put("date", self.date.clone());
        put("command", format!("`{}`", self.command));
        put("oxkeeper", self.oxkeeper_version.clone());
        put(
            "Apache ZooKeeper",
            format!(
                "{}, standalone, `forceSync=yes`, `maxClientCnxns=0`, default `snapCount`",
                self.zookeeper_version
            ),
        );
        put(
            "Java",
            format!(
                "{}, `{}`, all else by default",
                self.java_version, self.java_heap
            ),
        );
        put(
            "processor",
            format!("{} cores, {}", machine.cores, machine.cpu_model),
        );
        put(
            "memory",
            format!("{} MiB", grouped(machine.memory_mib as f64)),
        );
        put("kernel", format!("Linux {}", machine.kernel));
        put(
            "disk",
            format!(
                "{} on {}, which the kernel calls {}; 4 KiB write with fdatasync: {:.0} µs at the median",
                disk.file_system, disk.device, disk.kind, disk.sync_us
            ),
        );
        put(
            "used by others",
            format!("{:.2} cores on average", self.neighbour_cores),
        );
        self.put_generator_limits(page);
    }

    fn put_generator_limits(&self, page: &mut String) {
        let full = |figures: &[f64]| Pick::Median.of(figures) > Some(GENERATOR_CORES_FULL);
        let limited = |of: fn(&Figures) -> &[f64]| {
            let rows = self
                .rows
                .iter()
                .filter(|row| full(of(&row.generator_cores)));
            rows.map(|row| row.case.as_str()).collect::<Vec<_>>()
        };
        let oxkeeper = limited(|figures| &figures.oxkeeper);
        let reference = limited(|figures| &figures.reference);
        for (server, cases) in [("oxkeeper", oxkeeper), (self.reference, reference)] {
            if !cases.is_empty() {
                let _ = writeln!(
                    page,
                    "\nWith {server}, the generator's one thread used a whole core and may have been the \
                     limit in: {}.",
                    cases.join("; ")
                );
            }
        }
    }
}

const HOW_TO_READ: &str = "
## How to read it

- Both servers run on one machine, keep their data on one disk, sync before every reply, and are
  loaded by the same generator, `oxkeeper perf`, which checks every reply. It runs on the same
  machine and takes its share of the processor. N × M is connections × requests in flight on each;
  values have 100 bytes.
- Each case runs in rounds: ZooKeeper, oxkeeper, ZooKeeper, oxkeeper, … A figure is the median of
  its rounds; the longest gap is the longest of all rounds. The ratio is oxkeeper's figure over
  ZooKeeper's, with the smallest and the largest ratio of a single round behind it. **Compare
  ratios, not figures**: figures change with the machine.
- Before a server is loaded it must have been idle for a moment, so that the snapshots and
  compactions of one are not paid by the other.
- *CPU, µs/op* is the processor time of the whole server process over the operations done, from the
  middle of the measured time. It changes less with a busy machine than throughput does.
- *Beside N busy processes*: N others use all the processor time they get, as on a machine that does
  more than this.
- Latency at 16 requests in flight is mostly waiting in queues. The *longest gap* is the longest time
  without any reply, although replies were due.
- *Memory* is the resident set of the process after znodes have been created one by one (10,000,000 of
  them: in multis of 100) and the server has come to rest. *Disk* is what the data folder then occupies, with everything that the
  server keeps by default (logs, snapshots).
- *Restart* is the time from the start of the process to the answer of a getData. The server was
  loaded with pipelined sets for a moment, then stopped with SIGTERM, or killed under that load. The
  files are in the page cache.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn row(oxkeeper: &[f64], reference: &[f64], aims: &[Aim]) -> Row {
        let mut row = Row::plain("case".to_owned(), "throughput", Unit::OperationsPerS, aims);
        row.figures = Figures {
            oxkeeper: oxkeeper.to_vec(),
            reference: reference.to_vec(),
        };
        row
    }

    #[test]
    fn medians_stand_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(7.4), "7");
        assert_eq!(grouped(999.6), "1,000");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
        assert_eq!(grouped(123_456.0), "123,456");
    }

    #[test]
    fn a_ratio_is_that_of_the_medians() {
        let row = row(&[300.0, 100.0, 200.0], &[50.0, 100.0, 400.0], &[]);
        assert_eq!(row.ratio(), Some(2.0));
        assert_eq!(row.ratio_range(), Some((0.5, 6.0)));
        assert_eq!(row.is_met(), None);
    }

    #[test]
    fn all_aims_of_a_row_must_be_met() {
        let both = [Aim::RatioAtMost(0.125), Aim::AtMost(200.0)];
        assert_eq!(row(&[190.0], &[1_600.0], &both).is_met(), Some(true));
        assert_eq!(row(&[210.0], &[2_000.0], &both).is_met(), Some(false));
        assert_eq!(row(&[190.0], &[1_000.0], &both).is_met(), Some(false));
    }

    #[test]
    fn an_aim_without_figures_is_missed() {
        assert_eq!(row(&[], &[1.0], &[Aim::AtMost(9.0)]).is_met(), Some(false));
        let aims = [Aim::RatioAtLeast(1.0)];
        assert_eq!(row(&[1.0], &[0.0], &aims).is_met(), Some(false));
    }

    #[test]
    fn the_worst_round_decides_where_it_must() {
        let mut row = row(&[10.0, 60.0, 20.0], &[], &[Aim::AtMost(50.0)]);
        row.unit = Unit::Milliseconds;
        assert_eq!(row.is_met(), Some(true));
        row.pick = Pick::Largest;
        assert_eq!(row.is_met(), Some(false));
        assert!(
            row.line()
                .contains("60.0 ms | – | – | ≤ 50.0 ms | **missed**")
        );
    }

    #[test]
    fn a_line_shows_figures_ratio_aim_and_verdict() {
        let mut row = row(
            &[4_000.0, 4_400.0],
            &[1_000.0, 1_000.0],
            &[Aim::RatioAtLeast(4.0)],
        );
        row.cpu_us.oxkeeper = vec![2.04];
        let line = "| case | throughput | 4,200/s | 1,000/s | 4.20 (4.00 to 4.40) | ≥ 4.0× | met | 2.0 |  |";
        assert_eq!(row.line(), line);
    }
}
