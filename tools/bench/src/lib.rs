//! The comparison with Apache ZooKeeper in speed and size, and the page that it writes.
//!
//! Both servers are started as their users start them, on one disk, and loaded in turn by the
//! same generator, round by round, so that whatever else the machine does meets both. Everything
//! on the page comes from the run; nothing on it is written by hand.
//!
//! Must not: judge from one side alone, or hide that a run was disturbed. What others used of the
//! machine is measured too, and a page from a busy machine says so at its top.
//!
//! Entry types: [`BenchOptions`] (command line), [`run`].

mod cases;
mod load;
mod machine;
mod populated;
mod process;
mod report;
mod server;
mod session_end;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use cases::{LOAD_CASES, LoadCase, Reading, rate};
use load::{Load, Measured};
use machine::Machine;
use oxkeeper_compat_tests::server::{oracle, oxkeeper};
use process::{Busy, Neighbours};
use report::{Figures, Outcome, Row, Unit, grouped};
use server::{Programs, Reference, Server, Side};

const DEFAULT_PAGE: &str = "docs/benchmarks.md";
/// What a load may take beyond its measured time: setting up, warming up, deleting its znodes.
const LOAD_SLACK: Duration = Duration::from_secs(300);
/// The first load of all, not measured: a JVM compiles what it sees used.
const WARM_UP_S: f64 = 6.0;
const RUN_FOLDER_PREFIX: &str = "run-";

/// Command line of the `bench` program.
#[derive(Debug, Clone, Args)]
pub struct BenchOptions {
    /// Times that each server is measured in each case; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Seconds of load before each measurement.
    #[arg(long, default_value_t = 1.0)]
    warmup_s: f64,
    /// Only these cases, with commas between; --list-cases shows them. The page is then not
    /// written, unless --out says where to.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Znodes for memory, disk and restart.
    #[arg(long, default_value_t = 1_000_000)]
    znodes: u64,
    /// Measure oxkeeper with 10,000,000 znodes too.
    #[arg(long)]
    large: bool,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1)]
    generator_threads: u32,
    /// Folder for the data of both servers, on the disk to be measured. Default: the user's cache
    /// folder.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Compare with this other build of oxkeeper instead of ZooKeeper; the aim is then that nothing
    /// is worse by more than 5 %.
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    /// Where the page goes. Default: docs/benchmarks.md, if all cases are run.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print everything as JSON, with the figures of every round, instead of the table.
    #[arg(long)]
    json: bool,
    /// Print the names of the cases and stop.
    #[arg(long)]
    list_cases: bool,
}

impl BenchOptions {
    fn check(&self) -> Result<()> {
        if let Some(unknown) = self
            .cases
            .iter()
            .find(|case| !cases::names().any(|name| name == case.as_str()))
        {
            bail!("there is no case {unknown}; --list-cases shows what there is");
        }
        if !(self.seconds.is_finite() && self.seconds >= 0.5) {
            bail!("--seconds must be at least 0.5");
        }
        if !(self.warmup_s.is_finite() && self.warmup_s >= 0.0) {
            bail!("--warmup-s must not be negative");
        }
        if self.znodes == 0 {
            bail!("--znodes must be at least 1");
        }
        // Better now than after a quarter of an hour.
        if let Some(path) = self.page_path() {
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            if folder.is_some_and(|folder| !folder.is_dir()) {
                bail!(
                    "{} has no folder: run this at the root of the project, or say --out",
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// Where the page goes, if anywhere.
    fn page_path(&self) -> Option<PathBuf> {
        let is_whole = self.cases.is_empty() && self.against.is_none();
        let default = || is_whole.then(|| PathBuf::from(DEFAULT_PAGE));
        self.out.clone().or_else(default)
    }

    /// The options that change what is measured, as a command to type.
    fn command(&self) -> String {
        let mut args = format!("--rounds {} --seconds {}", self.rounds, self.seconds);
        args.push_str(&format!(" --warmup-s {}", self.warmup_s));
        args.push_str(&format!(" --znodes {}", self.znodes));
        if self.generator_threads != 1 {
            args.push_str(&format!(" --generator-threads {}", self.generator_threads));
        }
        if self.large {
            args.push_str(" --large");
        }
        if let Some(binary) = &self.against {
            args.push_str(&format!(" --against {}", binary.display()));
        }
        if !self.cases.is_empty() {
            args.push_str(&format!(" --cases {}", self.cases.join(",")));
        }
        format!("make bench BENCH_ARGS=\"{args}\"")
    }
}

fn progress(text: &str) {
    eprintln!("{text}");
}

/// All of the program. False if a case gave no figures.
pub fn run(options: BenchOptions) -> Result<bool> {
    if options.list_cases {
        cases::names().for_each(|name| println!("{name}"));
        return Ok(true);
    }
    options.check()?;
    let neighbours = Neighbours::watch()?;
    let scratch = run_folder(options.data_dir.as_deref())?;
    let bench = Bench::prepare(options, scratch.path())?;
    let mut outcome = bench.measure()?;
    outcome.neighbour_cores = neighbours.cores_used()?;
    if let Some(path) = bench.options.page_path() {
        std::fs::write(&path, outcome.page()).with_context(|| path.display().to_string())?;
        progress(&format!("written: {}", path.display()));
    }
    if bench.options.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        println!("{}\n{}", outcome.table(), outcome.summary());
    }
    for warning in outcome.warnings() {
        progress(&format!("warning: {warning}"));
    }
    Ok(outcome.failures.is_empty())
}

/// A folder for this run, removed with the value; those of runs that were cut short are removed too.
fn run_folder(wanted: Option<&Path>) -> Result<tempfile::TempDir> {
    let parent = match wanted {
        Some(folder) => folder.to_owned(),
        None => cache_folder()?,
    };
    std::fs::create_dir_all(&parent).with_context(|| parent.display().to_string())?;
    for entry in std::fs::read_dir(&parent)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(RUN_FOLDER_PREFIX)
            .and_then(|rest| rest.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    let prefix = format!("{RUN_FOLDER_PREFIX}{}-", std::process::id());
    Ok(tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(parent)?)
}

fn cache_folder() -> Result<PathBuf> {
    if let Some(cache) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(cache).join("oxkeeper/bench"));
    }
    let home = std::env::var_os("HOME").context("neither --data-dir nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/oxkeeper/bench"))
}

/// A run that has what it needs.
struct Bench {
    options: BenchOptions,
    programs: Programs,
    folder: PathBuf,
    machine: Machine,
    oxkeeper_version: String,
    java_version: String,
}

impl Bench {
    /// Fails if a tool is missing, before anything is measured.
    fn prepare(options: BenchOptions, folder: &Path) -> Result<Self> {
        let java_version = machine::first_line("java".as_ref(), "-version")
            .context("Apache ZooKeeper needs Java (Debian package default-jre-headless)")?;
        // Before anything is written here: a disk that is still writing syncs slowly.
        let machine = Machine::describe(folder)?;
        // A copy: a build that runs meanwhile must not change what is measured.
        let binary = folder.join("oxkeeper");
        std::fs::copy(oxkeeper::binary()?, &binary).context("copy the oxkeeper binary")?;
        let reference = match &options.against {
            Some(other) => {
                let binary = folder.join("oxkeeper-other");
                std::fs::copy(other, &binary).with_context(|| other.display().to_string())?;
                Reference::Oxkeeper { binary }
            }
            None => Reference::ZooKeeper {
                jars: oracle::jars().context("Apache ZooKeeper")?,
            },
        };
        Ok(Self {
            machine,
            oxkeeper_version: machine::first_line(&binary, "--version")?,
            java_version,
            programs: Programs {
                oxkeeper: binary,
                reference,
            },
            folder: folder.to_owned(),
            options,
        })
    }

    fn is_selected(&self, case: &str) -> bool {
        self.options.cases.is_empty() || self.options.cases.iter().any(|name| name == case)
    }

    fn measure(&self) -> Result<Outcome> {
        let mut outcome = Outcome {
            date: machine::today(),
            command: self.options.command(),
            rounds: self.options.rounds,
            seconds: self.options.seconds,
            machine: self.machine.clone(),
            oxkeeper_version: self.oxkeeper_version.clone(),
            reference: self.programs.name(Side::Reference),
            zookeeper_version: oracle::version()?.to_owned(),
            java_version: self.java_version.clone(),
            java_heap: server::HEAP,
            neighbour_cores: 0.0,
            rows: Vec::new(),
            failures: Vec::new(),
        };
        self.measure_loads(&mut outcome)?;
        if [cases::MEMORY, cases::DISK, cases::RESTART]
            .iter()
            .any(|case| self.is_selected(case))
        {
            outcome.take("memory, disk, restart", populated::run(self));
        }
        if self.is_selected(cases::SESSION_END) {
            outcome.take(cases::SESSION_END, session_end::run(self));
        }
        if self.options.large {
            let memory = |row: &&Row| row.case.starts_with(cases::MEMORY);
            let small = outcome.rows.iter().find(memory).cloned();
            outcome.take(
                "10,000,000 znodes",
                populated::run_large(self, small.as_ref()),
            );
        }
        Ok(outcome)
    }

    fn measure_loads(&self, outcome: &mut Outcome) -> Result<()> {
        let selected: Vec<_> = LOAD_CASES
            .iter()
            .filter(|case| self.is_selected(case.name))
            .collect();
        if selected.is_empty() {
            return Ok(());
        }
        let mut servers = Vec::new();
        for side in Side::BOTH {
            progress(&format!(
                "starting {} and warming it up",
                self.programs.name(side)
            ));
            let server = Server::start(side, &self.programs, &self.folder)?;
            let seconds = WARM_UP_S.to_string();
            let args = [
                "--workload",
                "mixed",
                "--read-percent",
                "50",
                "--duration-s",
                &seconds,
            ];
            self.run_load(&server, &Load::new(&args, LOAD_SLACK))?;
            servers.push(server);
        }
        for case in selected {
            outcome.take(case.name, self.measure_case(case, &servers));
        }
        Ok(())
    }

    fn measure_case(&self, case: &LoadCase, servers: &[Server]) -> Result<Vec<Row>> {
        let load = self.load_of(case);
        let mut runs: Vec<(Side, Measured)> = Vec::new();
        for round in 1..=self.options.rounds {
            for server in servers {
                for each in servers {
                    each.settle()?;
                }
                let busy = Busy::start(case.busy)?;
                let measured = self.run_load(server, &load)?;
                drop(busy);
                progress(&format!(
                    "{}, round {round}: {:>9} {:>9}/s, p50 {:.3} ms, p99 {:.3} ms, gap {:.1} ms, CPU {:.1} µs/op, generator {:.2} cores",
                    case.name,
                    server.name(),
                    grouped(rate(&measured)),
                    Reading::P50.of(&measured),
                    Reading::P99.of(&measured),
                    measured.report.longest_gap_ms,
                    cpu_us_per_operation(&measured).unwrap_or(f64::NAN),
                    measured.generator_cores.unwrap_or(f64::NAN),
                ));
                runs.push((server.side(), measured));
            }
        }
        Ok(self.rows_of(case, &runs))
    }

    fn load_of(&self, case: &LoadCase) -> Load {
        let options = &self.options;
        let args = [
            ("--workload", case.workload.to_owned()),
            ("--connections", case.connections.to_string()),
            ("--depth", case.depth.to_string()),
            ("--value-bytes", "100".to_owned()),
            ("--duration-s", options.seconds.to_string()),
            ("--warmup-s", options.warmup_s.to_string()),
            ("--read-percent", "90".to_owned()),
            ("--multi-ops", "10".to_owned()),
            ("--threads", options.generator_threads.to_string()),
        ];
        let args: Vec<&str> = args.iter().flat_map(|(key, value)| [*key, value]).collect();
        let limit = LOAD_SLACK + Duration::from_secs_f64(options.seconds + options.warmup_s);
        Load::new(&args, limit)
    }

    fn run_load(&self, server: &Server, load: &Load) -> Result<Measured> {
        load.run(&self.programs.oxkeeper, server)
            .with_context(|| format!("load on {}", server.name()))
    }

    /// One row for each measure of the case; CPU stands in the first.
    fn rows_of(&self, case: &LoadCase, runs: &[(Side, Measured)]) -> Vec<Row> {
        let figures = |of: &dyn Fn(&Measured) -> Option<f64>| {
            let on = |side| {
                let own = runs.iter().filter(move |(run_side, _)| *run_side == side);
                own.filter_map(|(_, measured)| of(measured)).collect()
            };
            Figures {
                oxkeeper: on(Side::Oxkeeper),
                reference: on(Side::Reference),
            }
        };
        let mut rows = Vec::new();
        for &(reading, aim) in case.measures {
            let unit = match reading {
                Reading::Rate => case.rate_unit,
                _ => Unit::Milliseconds,
            };
            let aims: Vec<_> = match self.options.against {
                Some(_) => vec![reading.no_worse()],
                None => aim.into_iter().collect(),
            };
            let mut row = Row::plain(case.title.to_owned(), reading.name(), unit, &aims);
            row.pick = reading.pick();
            row.figures = figures(&|measured| Some(reading.of(measured)));
            if rows.is_empty() {
                row.cpu_us = figures(&cpu_us_per_operation);
                row.generator_cores = figures(&|measured| measured.generator_cores);
            }
            rows.push(row);
        }
        rows
    }
}

impl Outcome {
    /// A case that failed must not cost the figures of all others.
    fn take(&mut self, case: &str, rows: Result<Vec<Row>>) {
        match rows {
            Ok(rows) => self.rows.extend(rows),
            Err(fault) => {
                progress(&format!("{case} FAILED: {fault:#}"));
                self.failures.push(format!("{case}: {fault:#}"));
            }
        }
    }
}

fn cpu_us_per_operation(measured: &Measured) -> Option<f64> {
    let rate = rate(measured);
    (rate > 0.0).then_some(measured.server_cores? * 1e6 / rate)
}
