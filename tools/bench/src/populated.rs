//! The cases with a populated tree: memory, disk, restart.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cases::{DISK, MEMORY, RESTART};
use crate::load::Load;
use crate::process::{disk_bytes, resident_bytes};
use crate::report::{Aim, Row, Unit, grouped};
use crate::server::{Server, Side};
use crate::{Bench, progress};

const MIB: f64 = (1 << 20) as f64;

const MEMORY_MIB_MAX: f64 = 200.0;
const MEMORY_RATIO_MAX: f64 = 1.0 / 8.0;
const RESTART_S_MAX: f64 = 0.5;
const DISK_BYTES_MAX: f64 = 500.0;
/// "Flat": ten times the znodes may cost this much more memory.
const GROWTH_MAX: f64 = 1.25;

/// Znodes of the run that only oxkeeper takes: they do not fit the heap that ZooKeeper gets here.
pub(super) const LARGE_ZNODES: u64 = 10_000_000;

const POPULATE_LIMIT: Duration = Duration::from_secs(1_800);
/// Load before a restart, so that there is something to recover.
const RESTART_LOAD: Duration = Duration::from_secs(2);
const RESTART_LOAD_LIMIT: Duration = Duration::from_secs(60);

/// Runs the selected ones on a new pair of servers.
pub(super) fn run(bench: &Bench) -> Result<Vec<Row>> {
    let znodes = bench.options.znodes;
    let mut servers = Vec::new();
    for side in Side::BOTH {
        let server = Server::start(side, &bench.programs, &bench.folder)?;
        progress(&format!(
            "{}: creating {znodes} znodes",
            bench.programs.name(side)
        ));
        bench.run_load(&server, &creates(znodes))?;
        server.settle()?;
        servers.push(server);
    }
    let mut rows = Vec::new();
    if bench.is_selected(MEMORY) {
        let aims = [
            Aim::RatioAtMost(MEMORY_RATIO_MAX),
            Aim::AtMost(MEMORY_MIB_MAX),
        ];
        rows.push(memory_row(&servers, znodes, "resident", &aims)?);
    }
    if bench.is_selected(DISK) {
        rows.push(disk_row(&servers, znodes)?);
    }
    if bench.is_selected(RESTART) {
        rows.extend(restart_rows(bench, &mut servers)?);
        if bench.is_selected(MEMORY) {
            rows.push(memory_row(
                &servers,
                znodes,
                "resident after a restart",
                &[],
            )?);
        }
    }
    Ok(rows)
}

/// The same for oxkeeper alone, ten times as large. `small` is the memory row of the pair.
pub(super) fn run_large(bench: &Bench, small: Option<&Row>) -> Result<Vec<Row>> {
    let mut server = Server::start(Side::Oxkeeper, &bench.programs, &bench.folder)?;
    progress(&format!("oxkeeper: creating {LARGE_ZNODES} znodes"));
    bench.run_load(&server, &populate(LARGE_ZNODES))?;
    server.settle()?;
    let servers = std::slice::from_ref(&server);
    let aims = [Aim::AtMost(MEMORY_MIB_MAX)];
    let memory = memory_row(servers, LARGE_ZNODES, "resident", &aims)?;
    let disk = disk_row(servers, LARGE_ZNODES)?;
    let mut rows = vec![memory, disk];
    if let Some(small) = small
        && let (Some(&few), Some(&many)) = (
            small.figures.oxkeeper.first(),
            rows[0].figures.oxkeeper.first(),
        )
    {
        progress(&format!("memory grew from {few:.0} to {many:.0} MiB"));
        let aims = [Aim::AtMost(few * GROWTH_MAX)];
        let measure = format!(
            "resident, flat from {} on",
            grouped(bench.options.znodes as f64)
        );
        let mut growth = Row::plain(
            title(MEMORY, LARGE_ZNODES),
            &measure,
            Unit::Mebibytes,
            &aims,
        );
        growth.figures.oxkeeper = vec![many];
        rows.push(growth);
    }
    rows.extend(restart_rows_of(
        bench,
        std::slice::from_mut(&mut server),
        LARGE_ZNODES,
    )?);
    Ok(rows)
}

/// One by one, as applications do it.
fn creates(znodes: u64) -> Load {
    let count = znodes.to_string();
    let args = [
        "--workload",
        "create",
        "--count",
        &count,
        "--keep",
        "--warmup-s",
        "0",
    ];
    Load::new(&args, POPULATE_LIMIT)
}

/// In multis: ten million one by one would take most of the run's time.
fn populate(znodes: u64) -> Load {
    let znodes = znodes.to_string();
    Load::new(
        &["--workload", "populate", "--znodes", &znodes],
        POPULATE_LIMIT,
    )
}

fn title(what: &str, znodes: u64) -> String {
    format!("{what}, {} znodes of 100 B", grouped(znodes as f64))
}

fn memory_row(servers: &[Server], znodes: u64, measure: &str, aims: &[Aim]) -> Result<Row> {
    let mut row = Row::plain(title(MEMORY, znodes), measure, Unit::Mebibytes, aims);
    for server in servers {
        server.settle()?;
        let mib = resident_bytes(server.pid()?)? as f64 / MIB;
        progress(&format!("{}: {mib:.0} MiB {measure}", server.name()));
        row.figures.put(server.side(), mib);
    }
    Ok(row)
}

fn disk_row(servers: &[Server], znodes: u64) -> Result<Row> {
    let aims = [Aim::AtMost(DISK_BYTES_MAX)];
    let mut row = Row::plain(title(DISK, znodes), "per znode", Unit::Bytes, &aims);
    for server in servers {
        let bytes = disk_bytes(&server.data_folder())? as f64 / znodes as f64;
        progress(&format!("{}: {bytes:.0} B/znode", server.name()));
        row.figures.put(server.side(), bytes);
    }
    Ok(row)
}

fn restart_rows(bench: &Bench, servers: &mut [Server]) -> Result<Vec<Row>> {
    restart_rows_of(bench, servers, bench.options.znodes)
}

fn restart_rows_of(bench: &Bench, servers: &mut [Server], znodes: u64) -> Result<Vec<Row>> {
    let aims = [Aim::AtMost(RESTART_S_MAX)];
    let row = |measure| Row::plain(title(RESTART, znodes), measure, Unit::Seconds, &aims);
    let mut stopped = row("after SIGTERM");
    let mut killed = row("after kill −9 under load");
    for round in 1..=bench.options.rounds {
        for server in &mut *servers {
            let side = server.side();
            let clean = restart_stopped(bench, server)?.as_secs_f64();
            let unclean = restart_killed(bench, server)?.as_secs_f64();
            progress(&format!(
                "restart, round {round}: {} {clean:.2} s after SIGTERM, {unclean:.2} s after kill -9",
                bench.programs.name(side)
            ));
            stopped.figures.put(side, clean);
            killed.figures.put(side, unclean);
        }
    }
    Ok(vec![killed, stopped])
}

fn restart_stopped(bench: &Bench, server: &mut Server) -> Result<Duration> {
    bench.run_load(server, &sets(RESTART_LOAD))?;
    server.stop()?;
    server.relaunch()
}

fn restart_killed(bench: &Bench, server: &mut Server) -> Result<Duration> {
    // Long enough to be still running when the server dies.
    let load = sets(RESTART_LOAD_LIMIT);
    let mut generator = load.begin(&bench.programs.oxkeeper, server)?;
    let until = Instant::now() + RESTART_LOAD;
    while Instant::now() < until {
        if !generator.is_running()? {
            bail!("the load ended before the server was killed");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    server.kill9()?;
    drop(generator);
    server.relaunch()
}

fn sets(length: Duration) -> Load {
    let seconds = length.as_secs_f64().to_string();
    let args = [
        "--workload",
        "set",
        "--root",
        "/bench-restart",
        "--keep",
        "--warmup-s",
        "0",
        "--duration-s",
        &seconds,
    ];
    Load::new(&args, length + RESTART_LOAD_LIMIT)
}
