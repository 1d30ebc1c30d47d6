//! What the kernel says about processes and the machine: CPU time, resident memory, disk use.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Linux counts CPU time for user space in hundredths of a second (`USER_HZ`), whatever its own tick.
const CPU_TICK: Duration = Duration::from_millis(10);
/// `st_blocks` has this unit on every file system.
const DISK_BLOCK_BYTES: u64 = 512;
const KIB: u64 = 1024;

/// Fields of `/proc/PID/stat`, counted from the state, which is the first after the name.
const FIELD_USER: usize = 11;
const FIELD_SYSTEM: usize = 12;
const FIELD_CHILDREN_USER: usize = 13;
const FIELD_CHILDREN_SYSTEM: usize = 14;

/// CPU time that a process has used, all its threads, user and system.
pub(super) fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).context(path)?;
    ticks(&stat, &[FIELD_USER, FIELD_SYSTEM])
}

/// CPU time of this process and of its children that have ended.
fn own_cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = [
        FIELD_USER,
        FIELD_SYSTEM,
        FIELD_CHILDREN_USER,
        FIELD_CHILDREN_SYSTEM,
    ];
    ticks(&stat, &fields)
}

fn ticks(stat: &str, wanted: &[usize]) -> Result<Duration> {
    // The name stands in parentheses and may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(") ").context("a process's stat")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let mut sum = 0;
    for &field in wanted {
        let text = fields.get(field).context("a process's stat is short")?;
        sum += text.parse::<u32>()?;
    }
    Ok(CPU_TICK * sum)
}

/// Resident memory of a process, bytes.
pub(super) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).context(path)?;
    status_bytes(&status, "VmRSS:")
}

fn status_bytes(status: &str, key: &str) -> Result<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .with_context(|| format!("no {key} in a process's status"))?;
    let kib = value.trim().trim_end_matches("kB").trim();
    Ok(kib.parse::<u64>()? * KIB)
}

/// What a folder occupies on its disk, as `du` counts.
pub(super) fn disk_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        // The server goes on working: a file may vanish between the listing and the look at it.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        sum += metadata.blocks() * DISK_BLOCK_BYTES;
        if metadata.is_dir() {
            sum += disk_bytes(&entry.path())?;
        }
    }
    Ok(sum)
}

/// Processes that use all the processor time they get; they end with this value.
#[derive(Debug)]
pub(super) struct Busy(Vec<Child>);

impl Busy {
    pub(super) fn start(count: u32) -> Result<Self> {
        let mut busy = Self(Vec::new());
        for _ in 0..count {
            let mut shell = Command::new("sh");
            shell.args(["-c", "while :; do :; done"]);
            busy.0.push(shell.spawn().context("start a busy process")?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Waited for, so that its time counts as our own.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Watches how much of the machine is used by others than this program and its children.
#[derive(Debug)]
pub(super) struct Neighbours {
    since: Instant,
    busy: Duration,
    own: Duration,
}

impl Neighbours {
    /// Begins to watch. No child may be running yet.
    pub(super) fn watch() -> Result<Self> {
        Ok(Self {
            since: Instant::now(),
            busy: machine_busy_time()?,
            own: own_cpu_time()?,
        })
    }

    /// Cores that others used on average. All children must have ended, else they count as others.
    pub(super) fn cores_used(&self) -> Result<f64> {
        let busy = machine_busy_time()?.saturating_sub(self.busy);
        let own = own_cpu_time()?.saturating_sub(self.own);
        let others = busy.saturating_sub(own);
        Ok(others.as_secs_f64() / self.since.elapsed().as_secs_f64())
    }
}

fn machine_busy_time() -> Result<Duration> {
    busy_time(&std::fs::read_to_string("/proc/stat")?)
}

/// User, nice, system and stolen time. Interrupts are left out: they serve whoever runs.
fn busy_time(stat: &str) -> Result<Duration> {
    const BUSY: [usize; 4] = [0, 1, 2, 7];
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<&str> = line.split_whitespace().skip(1).collect();
    let mut ticks: u64 = 0;
    for field in BUSY {
        ticks += fields.get(field).context("/proc/stat")?.parse::<u64>()?;
    }
    Ok(Duration::from_millis(ticks * CPU_TICK.as_millis() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_parentheses() {
        let stat = "77 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 7 3 20 0";
        let time = ticks(stat, &[FIELD_USER, FIELD_SYSTEM]).unwrap();
        assert_eq!(time, Duration::from_secs(2));
        let children = ticks(stat, &[FIELD_CHILDREN_USER, FIELD_CHILDREN_SYSTEM]).unwrap();
        assert_eq!(children, Duration::from_millis(100));
        assert!(ticks("77 (short) S 1", &[FIELD_USER]).is_err());
    }

    #[test]
    fn own_cpu_time_grows_with_work() {
        let before = cpu_time(std::process::id()).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while cpu_time(std::process::id()).unwrap() < before + CPU_TICK * 3 {
            assert!(Instant::now() < until);
        }
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t   512 kB\n";
        assert_eq!(status_bytes(status, "VmRSS:").unwrap(), 512 * 1024);
        assert!(status_bytes("Name:\tx\n", "VmRSS:").is_err());
    }

    #[test]
    fn idle_and_waiting_time_is_not_busy() {
        let stat = "cpu  100 20 30 9999 888 77 66 50 0 0\ncpu0 1 1 1 1\n";
        assert_eq!(busy_time(stat).unwrap(), Duration::from_secs(2));
    }

    #[test]
    fn disk_use_counts_blocks_in_sub_folders() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let before = disk_bytes(folder.path()).unwrap();
        let file = std::fs::File::create(inner.join("file")).unwrap();
        std::io::Write::write_all(&mut &file, &[1; 100_000]).unwrap();
        file.sync_all().unwrap();
        let after = disk_bytes(folder.path()).unwrap();
        assert!(after >= before + 100_000, "{before} {after}");
    }
}
