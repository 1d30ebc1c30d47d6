//! The machine that a run was made on, as far as it explains the figures. No host names, no paths.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use time::OffsetDateTime;

use crate::report::median;

/// File systems on which a sync costs nothing: figures from there would be worthless.
const MEMORY_FILE_SYSTEMS: [&str; 3] = ["tmpfs", "ramfs", "zram"];
const SYNC_SAMPLES: u64 = 200;
const SYNC_BYTES: usize = 4096;
const UNKNOWN: &str = "unknown";

#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    pub cores: usize,
    pub cpu_model: String,
    pub memory_mib: u64,
    pub kernel: String,
    pub disk: Disk,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Disk {
    pub file_system: String,
    /// Of the block device, without its folder.
    pub device: String,
    /// What the kernel takes the device for: `rotational` or `non-rotational`.
    pub kind: &'static str,
    /// Median time of a 4 KiB write into a preallocated file with fdatasync.
    pub sync_us: f64,
}

impl Machine {
    /// Looks around; `data` is the folder in which both servers keep their data.
    pub(super) fn describe(data: &Path) -> Result<Self> {
        let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let memory_kib = value_after(&memory, "MemTotal")
            .and_then(|value| value.trim_end_matches("kB").trim().parse::<u64>().ok())
            .context("/proc/meminfo names no MemTotal")?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            cpu_model: value_after(&cpus, "model name")
                .unwrap_or(UNKNOWN)
                .to_owned(),
            memory_mib: memory_kib / 1024,
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            disk: Disk::describe(data)?,
        })
    }
}

impl Disk {
    fn describe(data: &Path) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let (device, file_system) = mount_of(&mounts, &data.canonicalize()?)
            .with_context(|| format!("no file system holds {}", data.display()))?;
        let device = device.rsplit('/').next().unwrap_or(UNKNOWN).to_owned();
        let driver = device.trim_end_matches(|c: char| c.is_ascii_digit());
        if MEMORY_FILE_SYSTEMS.contains(&file_system.as_str())
            || MEMORY_FILE_SYSTEMS.contains(&driver)
        {
            bail!(
                "{} lies in memory ({file_system}), where a sync costs nothing: choose a folder on \
                 a disk with --data-dir",
                data.display()
            );
        }
        Ok(Self {
            file_system,
            kind: kind_of(&device),
            device,
            sync_us: sync_us(data)?,
        })
    }
}

/// Device and type of the file system that holds `folder`.
fn mount_of(mounts: &str, folder: &Path) -> Option<(String, String)> {
    let mut best: Option<(usize, &str, &str)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(device), Some(point), Some(kind)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // A later mount on the same point hides the earlier one.
        if folder.starts_with(point) && best.is_none_or(|(length, ..)| point.len() >= length) {
            best = Some((point.len(), device, kind));
        }
    }
    best.map(|(_, device, kind)| (device.to_owned(), kind.to_owned()))
}

fn kind_of(device: &str) -> &'static str {
    let queue = |device: &str| {
        std::fs::read_to_string(format!("/sys/class/block/{device}/queue/rotational"))
    };
    // A partition has no queue of its own; its disk's name is the folder above.
    let of_disk = || {
        let link = std::fs::canonicalize(format!("/sys/class/block/{device}"))?;
        let disk = link.parent().and_then(Path::file_name).unwrap_or_default();
        queue(&disk.to_string_lossy())
    };
    match queue(device)
        .or_else(|_| of_disk())
        .as_deref()
        .map(str::trim)
    {
        Ok("0") => "non-rotational",
        Ok("1") => "rotational",
        _ => UNKNOWN,
    }
}

fn sync_us(folder: &Path) -> Result<f64> {
    let file: File = tempfile::tempfile_in(folder)?;
    let block = [7; SYNC_BYTES];
    for nth in 0..SYNC_SAMPLES {
        file.write_all_at(&block, nth * SYNC_BYTES as u64)?;
    }
    file.sync_all()?;
    let mut samples = Vec::new();
    for nth in 0..SYNC_SAMPLES {
        let started = Instant::now();
        file.write_all_at(&block, nth * SYNC_BYTES as u64)?;
        file.sync_data()?;
        samples.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&samples))
}

fn value_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim())
}

/// First line that a command prints to either stream.
pub(super) fn first_line(program: &Path, argument: &str) -> Result<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("{} is needed and cannot be run", program.display()))?;
    let all = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&all);
    Ok(text.lines().next().unwrap_or(UNKNOWN).to_owned())
}

/// Today in UTC, as `2026-01-31`.
pub(super) fn today() -> String {
    OffsetDateTime::now_utc().date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_holds_a_folder() {
        let mounts =
            "/dev/vda1 / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/x xfs rw 0 0\n";
        let of = |path: &str| mount_of(mounts, Path::new(path)).unwrap().1;
        assert_eq!(of("/home/me"), "ext4");
        assert_eq!(of("/tmp/y"), "tmpfs");
        assert_eq!(of("/tmp/x/y"), "xfs");
        assert_eq!(of("/tmpfiles"), "ext4");
    }
}
