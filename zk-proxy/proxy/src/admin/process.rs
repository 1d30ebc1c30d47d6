//! What the system counts of this process, under the names of Prometheus' own client libraries.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};

use super::sample::Sample;

/// What the system does not tell is not there.
pub(super) fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    if let Some(stat) = Stat::read() {
        let ticks = clock_ticks_per_second() as f64;
        samples.push(Sample::gauge(
            "process_cpu_seconds_total",
            stat.cpu_ticks as f64 / ticks,
        ));
        if let Some(booted) = booted_at() {
            let started = booted as f64 + stat.start_ticks as f64 / ticks;
            samples.push(Sample::gauge("process_start_time_seconds", started));
        }
        samples.push(Sample::gauge(
            "process_virtual_memory_bytes",
            stat.virtual_bytes as f64,
        ));
        samples.push(Sample::gauge(
            "process_resident_memory_bytes",
            (stat.resident_pages * page_size() as u64) as f64,
        ));
    }
    samples.push(Sample::gauge("process_open_fds", open_files() as f64));
    samples.push(Sample::gauge("process_max_fds", max_files() as f64));
    samples
}

/// Of `/proc/self/stat`; see proc_pid_stat(5).
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is a name in parentheses and may hold anything.
        let (_, after_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Seconds since 1970.
fn booted_at() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// File descriptors that this process has open; 0 where the system does not tell.
pub(super) fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// How many it may open; 0 where the system does not tell.
pub(super) fn max_files() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    soft.and_then(|limit| limit.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_may_hold_anything() {
        let text = "7 (a ) b (c)) S 1 1 1 0 -1 4194304 9 0 0 0 30 12 0 0 20 0 4 0 5000 8192 3 0\n";
        let stat = Stat::parse(text).expect("a stat line");
        assert_eq!(stat.cpu_ticks, 42);
        assert_eq!(stat.start_ticks, 5000);
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (8192, 3));
    }
}
