//! One run of the load generator against one server, and what the server's CPU did meanwhile.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process::cpu_time;
use crate::server::Server;

const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);
/// CPU time is taken from the middle of the measured window. Its ends are known only to some
/// milliseconds from outside, and the generator connects before it and disconnects after it.
const WINDOW_MARGIN: f64 = 0.1;

/// How to load a server.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// Arguments of `oxkeeper perf`, without the address.
    pub args: Vec<String>,
    /// The most that the whole run may take.
    pub limit: Duration,
}

impl Load {
    pub(super) fn new(args: &[&str], limit: Duration) -> Self {
        Self {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            limit,
        }
    }

    /// Starts the generator and does not wait for it.
    pub(super) fn begin(&self, oxkeeper: &Path, server: &Server) -> Result<Generator> {
        let child = Command::new(oxkeeper)
            .args(["perf", "--json", "--quiet", "--servers"])
            .arg(server.addr().to_string())
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the load generator")?;
        Ok(Generator { child })
    }

    /// Runs it to its end. A run in which the generator found a fault is an error.
    pub(super) fn run(&self, oxkeeper: &Path, server: &Server) -> Result<Measured> {
        let mut generator = self.begin(oxkeeper, server)?;
        let (server_pid, generator_pid) = (server.pid()?, generator.child.id());
        let until = Instant::now() + self.limit;
        let mut samples = Vec::new();
        let status = loop {
            if let Some(status) = generator.child.try_wait()? {
                break status;
            }
            // Either may have ended since; the check above and the report's absence tell.
            if let (Ok(server), Ok(generator)) = (cpu_time(server_pid), cpu_time(generator_pid)) {
                let at = Instant::now();
                samples.push(Sample {
                    at,
                    server,
                    generator,
                });
            }
            if Instant::now() > until {
                bail!("the load did not end within {:?}", self.limit);
            }
            std::thread::sleep(SAMPLE_INTERVAL);
        };
        let ended = Instant::now();
        let (output, errors) = generator.output()?;
        let report: PerfReport = serde_json::from_str(&output)
            .with_context(|| format!("the load generator ({status}): {}", errors.trim()))?;
        if !report.passed || !status.success() {
            bail!(
                "the generator found faults: {:?}, {} wrong replies {:?}\n{}",
                report.errors,
                report.mismatches,
                report.mismatch_samples,
                server.log()
            );
        }
        Measured::new(report, &samples, ended)
    }
}

/// A generator that runs; it is ended with this value.
#[derive(Debug)]
pub(super) struct Generator {
    child: Child,
}

impl Generator {
    /// True while it has not ended.
    pub(super) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// What it has printed; only after its end. Reports are far smaller than a pipe.
    fn output(&mut self) -> Result<(String, String)> {
        let (mut output, mut errors) = (String::new(), String::new());
        if let Some(stdout) = &mut self.child.stdout {
            stdout.read_to_string(&mut output)?;
        }
        if let Some(stderr) = &mut self.child.stderr {
            stderr.read_to_string(&mut errors)?;
        }
        Ok((output, errors))
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // It has ended already, or its result is not wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `oxkeeper perf --json` prints, as far as it is used here.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct PerfReport {
    pub elapsed_s: f64,
    pub operations_per_s: f64,
    pub latency: Latency,
    pub latency_by_kind: BTreeMap<String, Latency>,
    pub longest_gap_ms: f64,
    pub errors: BTreeMap<String, u64>,
    pub mismatches: u64,
    pub mismatch_samples: Vec<String>,
    pub cleanup_s: f64,
    pub passed: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Latency {
    pub count: u64,
    pub p50_us: f64,
    pub p99_us: f64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    server: Duration,
    generator: Duration,
}

/// A run's result.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub report: PerfReport,
    /// Cores that the server used while it was measured; `None` if the run was too short to tell.
    pub server_cores: Option<f64>,
    /// The same of the generator, which has one thread: near 1 it was the limit.
    pub generator_cores: Option<f64>,
}

impl Measured {
    fn new(report: PerfReport, samples: &[Sample], ended: Instant) -> Result<Self> {
        let age = |seconds: f64| {
            ended
                .checked_sub(Duration::try_from_secs_f64(seconds.max(0.0))?)
                .context("a load that began before the clock")
        };
        let margin = report.elapsed_s * WINDOW_MARGIN;
        let from = age(report.cleanup_s + report.elapsed_s - margin)?;
        let to = age(report.cleanup_s + margin)?;
        Ok(Self {
            server_cores: cores(samples, from, to, |sample| sample.server),
            generator_cores: cores(samples, from, to, |sample| sample.generator),
            report,
        })
    }
}

/// Cores used between the first and the last sample within the window.
fn cores(
    samples: &[Sample],
    from: Instant,
    to: Instant,
    of: impl Fn(&Sample) -> Duration,
) -> Option<f64> {
    let within = |sample: &&Sample| (from..=to).contains(&sample.at);
    let first = samples.iter().find(within)?;
    let last = samples.iter().rev().find(within)?;
    let time_s = (last.at - first.at).as_secs_f64();
    // A counter of hundredths says nothing about less than a few of them.
    (time_s > 0.2).then(|| of(last).saturating_sub(of(first)).as_secs_f64() / time_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that is busy only in the second from 1 to 2 of three.
    fn samples(start: Instant) -> Vec<Sample> {
        let sample = |tenth: u64| Sample {
            at: start + Duration::from_millis(tenth * 100),
            server: Duration::from_millis(tenth.clamp(10, 20) * 100 - 1_000),
            generator: Duration::from_millis(tenth * 50),
        };
        (0..=30).map(sample).collect()
    }

    #[test]
    fn cpu_is_taken_from_the_measured_window_only() {
        let start = Instant::now();
        let report = PerfReport {
            elapsed_s: 1.0,
            cleanup_s: 1.0,
            ..PerfReport::default()
        };
        let ended = start + Duration::from_secs(3);
        let measured = Measured::new(report, &samples(start), ended).unwrap();
        assert!((measured.server_cores.unwrap() - 1.0).abs() < 1e-6);
        assert!((measured.generator_cores.unwrap() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_window_without_samples_gives_no_cpu() {
        let start = Instant::now();
        let (from, to) = (
            start + Duration::from_secs(9),
            start + Duration::from_secs(10),
        );
        assert_eq!(cores(&samples(start), from, to, |s| s.server), None);
    }
}
