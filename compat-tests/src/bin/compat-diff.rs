//! Compares oxkeeper with a real Apache ZooKeeper, reply by reply. See the library's `diff`.
//!
//! `compat-diff --seeds 0..200 --ops 1000`

use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use oxkeeper_compat_tests::diff::{self, Divergence, Plan, allowed, generate, shrink};
use oxkeeper_compat_tests::server::oracle::{self, Oracle};
use oxkeeper_compat_tests::server::oxkeeper::ServerUnderTest;
use oxkeeper_compat_tests::server::{External, TestServer};

/// A divergence is run again this often, to tell a wrong answer from a race.
const CONFIRMATIONS: usize = 3;
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Sends the same seeded requests to a real ZooKeeper (left) and to another server (right).
#[derive(Debug, Parser)]
struct Args {
    /// Seeds, as `from..to`; one plan each.
    #[arg(long, default_value = "0..200", value_parser = parse_range)]
    seeds: Range<u64>,
    /// Requests in each plan.
    #[arg(long, default_value_t = 1_000)]
    ops: usize,
    /// What stands on the right.
    #[arg(long, value_enum, default_value_t = Right::Oxkeeper)]
    right: Right,
    /// A running server on the right instead, as `host:port`. It must be empty.
    #[arg(long)]
    right_addr: Option<String>,
    /// Goes on after a divergence, up to this many.
    #[arg(long, default_value_t = 1)]
    max_divergences: usize,
    /// Seconds to spend on making a divergence shorter.
    #[arg(long, default_value_t = 90)]
    shrink_s: u64,
    /// Prints what may differ, and why, and what is never sent.
    #[arg(long)]
    list_allowed: bool,
    /// Prints the whole transcript of both sides of the shortest plan.
    #[arg(long)]
    verbose: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Right {
    /// The binary of `OXKEEPER_BIN`, or the one beside this program.
    Oxkeeper,
    /// A second real ZooKeeper: what differs then is a fault of the harness.
    Oracle,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("not of the form from..to")?;
    let number = |s: &str| s.parse::<u64>().map_err(|e| e.to_string());
    Ok(number(from)?..number(to)?)
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if args.list_allowed {
        list_allowed();
        return Ok(ExitCode::SUCCESS);
    }
    let mut pair = Pair::start(&args)?;
    let started = Instant::now();
    let mut told = Instant::now();
    let (mut requests, mut plans, mut divergences, mut unconfirmed) = (0, 0, 0, 0);
    for seed in args.seeds.clone() {
        let plan = generate::plan(seed, args.ops);
        requests += plan.requests();
        plans += 1;
        if let Some(divergence) = pair.run(&plan)? {
            pair = pair.fresh(&args)?;
            match pair.confirm(&plan, &args)? {
                Some(confirmed) => {
                    divergences += 1;
                    pair.report(&plan, &confirmed, &args)?;
                    pair = pair.fresh(&args)?;
                }
                None => {
                    unconfirmed += 1;
                    println!("seed {seed}: differed once, not again:\n{divergence}");
                }
            }
            if divergences >= args.max_divergences {
                break;
            }
        }
        if told.elapsed() > PROGRESS_EVERY {
            told = Instant::now();
            println!(
                "seed {seed}: {requests} requests in {:.0?}",
                started.elapsed()
            );
        }
    }
    println!(
        "{plans} plans, {requests} requests, {divergences} divergences, {unconfirmed} not \
         confirmed, {:.0?}, Apache ZooKeeper {}",
        started.elapsed(),
        oracle::version()?
    );
    Ok(if divergences + unconfirmed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn list_allowed() {
    println!("Renamed or sorted before the comparison:");
    for a in allowed::RENAMED {
        println!("- {}\n    because: {}", a.what, a.why);
    }
    println!("Never sent:");
    for a in allowed::NOT_SENT {
        println!("- {}\n    because: {}", a.what, a.why);
    }
}

/// The two servers.
struct Pair {
    left: Oracle,
    right: Box<dyn TestServer>,
}

impl Pair {
    fn start(args: &Args) -> Result<Self> {
        let options = diff::server_options();
        let right: Box<dyn TestServer> = match (&args.right_addr, args.right) {
            (Some(addr), _) => Box::new(External::new(addr)?),
            (None, Right::Oxkeeper) => Box::new(ServerUnderTest::start(&options)?),
            (None, Right::Oracle) => Box::new(Oracle::start(&options)?),
        };
        let left = Oracle::start(&options)?;
        Ok(Self { left, right })
    }

    /// New servers with empty data: after a divergence their states differ.
    fn fresh(self, args: &Args) -> Result<Self> {
        if args.right_addr.is_some() {
            return Ok(self);
        }
        drop(self);
        Self::start(args)
    }

    fn run(&mut self, plan: &Plan) -> Result<Option<Divergence>> {
        diff::run_pair(plan, &self.left, &*self.right)
            .with_context(|| format!("seed {}\nright: {}", plan.seed, self.right.output()))
    }

    fn confirm(&mut self, plan: &Plan, args: &Args) -> Result<Option<Divergence>> {
        for _ in 0..CONFIRMATIONS {
            if let Some(divergence) = self.run(plan)? {
                return Ok(Some(divergence));
            }
            *self = Self::start(args)?;
        }
        Ok(None)
    }

    fn report(&mut self, plan: &Plan, found: &Divergence, args: &Args) -> Result<()> {
        println!("seed {}: DIVERGES (left: ZooKeeper)\n{found}", plan.seed);
        let limit = Duration::from_secs(args.shrink_s);
        // A candidate after which the servers cannot be cleaned gets new ones.
        let small = shrink::shrink(plan, limit, &mut |candidate| match diff::run_pair(
            candidate,
            &self.left,
            &*self.right,
        ) {
            Ok(divergence) => divergence.is_some(),
            Err(_) => {
                if let Ok(fresh) = Self::start(args) {
                    *self = fresh;
                }
                false
            }
        });
        println!(
            "shortest: {} steps, {} requests",
            small.steps.len(),
            small.requests()
        );
        for (i, step) in small.steps.iter().enumerate() {
            println!("  {i:>3} {step}");
        }
        if let Some(divergence) = self.run(&small)? {
            println!("{divergence}");
        }
        if args.verbose {
            for (name, addr) in [("left", self.left.addr()), ("right", self.right.addr())] {
                let transcript = diff::run_plan(&small, addr)?;
                for (i, lines) in transcript.steps.iter().enumerate() {
                    for line in lines {
                        println!("  {name} {i:>3} {line}");
                    }
                }
            }
        }
        println!(
            "again: compat-diff --seeds {}..{} --ops {}\n",
            plan.seed,
            plan.seed + 1,
            args.ops
        );
        Ok(())
    }
}
