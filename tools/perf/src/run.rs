//! A run from end to end: set up, connect, warm up, measure, clean up, report.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::PerfError;
use crate::options::{PerfArgs, PerfOptions, RunLength, Workload};
use crate::report::Report;
use crate::stage::Stage;
use crate::tally::Tally;
use crate::worker::{Outcome, Progress, Window, Worker};

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// All of `oxkeeper perf`: runs, prints the report to standard output. False if the run did not pass.
pub fn command(args: PerfArgs) -> Result<bool, PerfError> {
    let json = args.json;
    let report = run(PerfOptions::try_from(args)?)?;
    let text = match json {
        true => serde_json::to_string_pretty(&report)?,
        false => report.to_string(),
    };
    // Whoever closed the pipe has read enough.
    match writeln!(io::stdout(), "{text}") {
        Err(fault) if fault.kind() != io::ErrorKind::BrokenPipe => Err(fault.into()),
        _ => Ok(report.passed),
    }
}

/// Runs the workload. Progress goes to standard error unless the options say otherwise.
pub fn run(mut options: PerfOptions) -> Result<Report, PerfError> {
    if options.workload == Workload::Watch {
        // The setter is connection 0.
        options.connections += 1;
    }
    let options = Arc::new(options);
    let staged = AtomicU64::new(0);
    let mut stage = Stage::open(&options, &staged)?;
    let slots = slot_count(&options);
    let started = Instant::now();
    let versions = announce(&options, &staged, "created", || {
        stage.make_root()?;
        stage.make_slots(slots)
    })?;
    let setup_s = started.elapsed().as_secs_f64();
    if options.workload == Workload::Populate {
        return Ok(populated(&options, setup_s));
    }

    let run = run_number();
    let load = Load::run(&options, run, &versions);
    let cleaning = Instant::now();
    staged.store(0, Ordering::Relaxed);
    if !options.keep {
        let created = load.as_ref().map_or(&[][..], |load| &load.created);
        announce(&options, &staged, "deleted", || {
            // The setup's session may have expired in the meantime.
            stage.renew()?;
            stage.clear(run, created, slots)
        })?;
    }
    let load = load?;
    let mut report = Report::new(&options, &load.tally, load.elapsed_ns);
    report.setup_s = setup_s;
    report.cleanup_s = cleaning.elapsed().as_secs_f64();
    Ok(report)
}

fn slot_count(options: &PerfOptions) -> u64 {
    match options.workload {
        Workload::Create | Workload::Session => 0,
        Workload::Watch => options.depth as u64,
        _ => options.znodes,
    }
}

fn populated(options: &PerfOptions, elapsed_s: f64) -> Report {
    let mut tally = Tally::new();
    tally.finished = options.znodes;
    let mut report = Report::new(options, &tally, (elapsed_s * 1e9) as u64);
    report.setup_s = elapsed_s;
    report
}

/// Tells runs apart, so that what one left behind is not in the way of the next.
fn run_number() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A line of progress. A run goes on if nobody can read it.
fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Runs `work` while another thread says how far it is.
fn announce<T>(
    options: &PerfOptions,
    done: &AtomicU64,
    what: &str,
    work: impl FnOnce() -> Result<T, PerfError>,
) -> Result<T, PerfError> {
    let finished = AtomicBool::new(options.quiet);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            loop {
                thread::park_timeout(PROGRESS_INTERVAL);
                if finished.load(Ordering::Acquire) {
                    return;
                }
                tell(format_args!(
                    "{what} {} znodes",
                    done.load(Ordering::Relaxed)
                ));
            }
        });
        let result = work();
        finished.store(true, Ordering::Release);
        watcher.thread().unpark();
        result
    })
}

/// The measured part.
struct Load {
    tally: Tally,
    created: Vec<(usize, u64)>,
    elapsed_ns: u64,
}

/// What the main thread tells a worker when all are connected.
type Start = (Window, u64);

impl Load {
    fn run(options: &Arc<PerfOptions>, run: u64, versions: &[i32]) -> Result<Self, PerfError> {
        let origin = Instant::now();
        let progress: Vec<_> = (0..options.threads)
            .map(|_| Arc::new(Progress::default()))
            .collect();
        thread::scope(|scope| {
            let (ready, readiness) = mpsc::channel();
            let mut starts = Vec::new();
            let mut threads = Vec::new();
            for (thread, progress) in progress.iter().enumerate() {
                let (start, started) = mpsc::channel();
                starts.push(start);
                let connections = (thread..options.connections).step_by(options.threads);
                let (options, progress, ready) =
                    (Arc::clone(options), Arc::clone(progress), ready.clone());
                threads.push(scope.spawn(move || {
                    let worker =
                        Worker::new(options, origin, progress, connections, run, versions)?;
                    drive(worker, &ready, &started)
                }));
            }
            drop(ready);
            let window = begin(options, origin, &readiness, starts)?;
            watch_progress(options, &progress, || {
                threads.iter().all(thread::ScopedJoinHandle::is_finished)
            });
            let mut load = Self {
                tally: Tally::new(),
                created: Vec::new(),
                elapsed_ns: 0,
            };
            for thread in threads {
                let outcome = thread.join().map_err(|_| PerfError::Panicked)??;
                load.tally.add(&outcome.tally);
                load.created.extend(outcome.created);
            }
            load.elapsed_ns = elapsed_ns(window, &load.tally);
            Ok(load)
        })
    }
}

fn drive(
    mut worker: Worker,
    ready: &mpsc::Sender<bool>,
    started: &mpsc::Receiver<Start>,
) -> Result<Outcome, PerfError> {
    let connected = worker.connect()?;
    let _ = ready.send(connected);
    // Without a start, another worker could not connect and the run is given up.
    if let Ok((window, budget)) = started.recv() {
        worker.load(window, budget)?;
    }
    Ok(worker.finish()?)
}

/// Waits until all workers are connected, then starts them with one window.
fn begin(
    options: &PerfOptions,
    origin: Instant,
    readiness: &mpsc::Receiver<bool>,
    starts: Vec<mpsc::Sender<Start>>,
) -> Result<Window, PerfError> {
    let connected = readiness
        .iter()
        .take(starts.len())
        .filter(|&connected| connected)
        .count();
    if connected < starts.len() {
        return Err(PerfError::ConnectTimeout);
    }
    let warmup_ns = nanoseconds(origin.elapsed());
    let start_ns = warmup_ns + nanoseconds(options.warmup);
    let (end_ns, count) = match options.length {
        RunLength::Time(duration) => (start_ns + nanoseconds(duration), u64::MAX),
        RunLength::Operations(count) => (u64::MAX, count),
    };
    let window = Window {
        warmup_ns,
        start_ns,
        end_ns,
    };
    let threads = starts.len() as u64;
    for (thread, start) in (0_u64..).zip(starts) {
        let share = if count == u64::MAX {
            count
        } else {
            count / threads + u64::from(thread < count % threads)
        };
        // A worker that is gone says why when it is joined.
        let _ = start.send((window, share));
    }
    Ok(window)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The window, at least up to its last reply; for a count, exactly up to that.
fn elapsed_ns(window: Window, tally: &Tally) -> u64 {
    let end_ns = if window.end_ns == u64::MAX {
        0
    } else {
        window.end_ns
    };
    end_ns
        .max(tally.last_finish_ns)
        .saturating_sub(window.start_ns)
}

fn watch_progress(options: &PerfOptions, workers: &[Arc<Progress>], finished: impl Fn() -> bool) {
    const GLANCE: Duration = Duration::from_millis(10);
    let mut next = Instant::now() + PROGRESS_INTERVAL;
    let mut before = 0;
    while !finished() {
        thread::sleep(GLANCE);
        if Instant::now() < next || options.quiet {
            continue;
        }
        next += PROGRESS_INTERVAL;
        let sum = |field: fn(&Progress) -> &AtomicU64| -> u64 {
            workers
                .iter()
                .map(|worker| field(worker).load(Ordering::Relaxed))
                .sum()
        };
        let gaps = workers
            .iter()
            .map(|worker| worker.longest_gap_ns.load(Ordering::Relaxed));
        let all = sum(|worker| &worker.finished);
        tell(format_args!(
            "{:>9} ops/s  {all} done  {} in flight  {} errors  {} wrong  longest gap {:.1} ms",
            all.saturating_sub(before),
            sum(|worker| &worker.in_flight),
            sum(|worker| &worker.errors),
            sum(|worker| &worker.mismatches),
            gaps.max().unwrap_or_default() as f64 / 1e6,
        ));
        before = all;
    }
}
