//! Log lines: to standard error, so that standard output stays free for what a command prints.
//!
//! A line that cannot be written must cost nothing but the line. Standard error may be a full disk, or
//! a pipe whose reader is gone or does not read, and a write to that one never returns. So whoever
//! logs only leaves the line with [`Log`], and a thread that does nothing else writes.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::Context;
use parking_lot::{Condvar, Mutex};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogLevel};
use crate::limits::{LAST_LOG_LINES_WAIT, WAITING_LOG_BYTES_MAX};

/// Installs the process's log. Call once, before anything logs.
pub(crate) fn start(level: &LogLevel, format: LogFormat) -> anyhow::Result<FlushAtEnd> {
    let filter = EnvFilter::try_new(&level.0).context("log-level is not usable")?;
    let log = Log::to(io::stderr()).context("cannot start the thread that writes the log")?;
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(move || writer.clone());
    let installed = match format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    installed.map_err(|problem| anyhow::anyhow!("cannot start the log: {problem}"))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(FlushAtEnd(log))
}

/// Writes the last lines when it is dropped.
pub(crate) struct FlushAtEnd(pub(crate) Log);

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        self.0.flush();
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let traced = backtrace.status() == BacktraceStatus::Captured;
    tracing::error!(
        thread = thread::current().name(),
        at = panic.location().map(tracing::field::display),
        backtrace = traced.then(|| tracing::field::display(&backtrace)),
        "panicked: {}",
        message(panic)
    );
}

fn message<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied())
        .unwrap_or("(no message)")
}

/// Where log lines wait to be written. Clones share them.
#[derive(Clone)]
pub(crate) struct Log(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Invariant: at most [`WAITING_LOG_BYTES_MAX`].
    lines: Vec<u8>,
    /// Lines that were not written, since the log last told of them.
    lost: u64,
    /// The thread has taken lines and is not back.
    writing: bool,
}

impl Log {
    fn to(target: impl Write + Send + 'static) -> io::Result<Self> {
        let log = Self(Arc::new(Shared {
            waiting: Mutex::default(),
            changed: Condvar::new(),
        }));
        let shared = Arc::clone(&log.0);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_to(target))?;
        Ok(log)
    }

    /// Waits until everything is written, but not for long.
    pub(crate) fn flush(&self) {
        let deadline = Instant::now() + LAST_LOG_LINES_WAIT;
        let mut waiting = self.0.waiting.lock();
        while !waiting.lines.is_empty() || waiting.writing {
            if self
                .0
                .changed
                .wait_until(&mut waiting, deadline)
                .timed_out()
            {
                return;
            }
        }
    }
}

impl Write for Log {
    /// Takes a line, or loses it: never fails, never waits.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.waiting.lock();
        if waiting.lines.len() + line.len() > WAITING_LOG_BYTES_MAX {
            waiting.lost += 1;
        } else {
            waiting.lines.extend_from_slice(line);
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// For as long as the process lives.
    fn write_to(&self, mut target: impl Write) {
        loop {
            let lines = self.take_lines();
            let written = target.write_all(&lines);
            let mut waiting = self.waiting.lock();
            waiting.writing = false;
            let lost = match written {
                Ok(()) => std::mem::take(&mut waiting.lost),
                Err(_) => {
                    waiting.lost += lines.iter().filter(|&&byte| byte == b'\n').count() as u64;
                    0
                }
            };
            self.changed.notify_all();
            drop(waiting);
            if lost > 0 {
                tracing::warn!(
                    lines = lost,
                    "log lines were lost: they could not be written in time"
                );
            }
        }
    }

    fn take_lines(&self) -> Vec<u8> {
        let mut waiting = self.waiting.lock();
        while waiting.lines.is_empty() {
            self.changed.wait(&mut waiting);
        }
        waiting.writing = true;
        std::mem::take(&mut waiting.lines)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Passes on what is written once it may; until then a write does not return.
    struct Gate {
        open: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Both ends go with the test.
            let _ = self.open.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_nobody_reads_is_lost_beyond_the_limit_and_stops_nobody() {
        let (open, gate) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        let mut log = Log::to(Gate {
            open: gate,
            written: sender,
        })
        .unwrap();
        let line = vec![b'x'; 1 << 10];
        log.write_all(&line).unwrap();
        while !log.0.waiting.lock().writing {
            thread::yield_now();
        }
        for _ in 0..2 * WAITING_LOG_BYTES_MAX / line.len() {
            log.write_all(&line).unwrap();
        }
        let fit = WAITING_LOG_BYTES_MAX / line.len();
        {
            let waiting = log.0.waiting.lock();
            assert_eq!(waiting.lines.len(), fit * line.len());
            assert_eq!(waiting.lost, fit as u64);
        }
        drop(open);
        log.flush();
        let bytes: usize = written.try_iter().map(|bytes| bytes.len()).sum();
        assert_eq!(bytes, (1 + fit) * line.len());
        assert_eq!(log.0.waiting.lock().lost, 0);
    }

    #[test]
    fn a_panic_is_a_line_of_the_log() {
        let (sender, written) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        drop(open);
        let log = Log::to(Gate {
            open: gate,
            written: sender,
        })
        .unwrap();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone())
            .finish();
        std::panic::set_hook(Box::new(log_panic));
        tracing::subscriber::with_default(subscriber, || {
            let panicked = std::panic::catch_unwind(|| panic!("out of {}", "cheese"));
            assert!(panicked.is_err());
        });
        drop(std::panic::take_hook());
        log.flush();
        let lines: Vec<u8> = written.try_iter().flatten().collect();
        let lines = String::from_utf8(lines).unwrap();
        for part in ["ERROR", "panicked: out of cheese", "src/logging.rs:"] {
            assert!(lines.contains(part), "{part} is missing in {lines}");
        }
    }

    #[test]
    fn lines_that_fail_are_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut log = Log::to(Full).unwrap();
        log.write_all(b"one\n").unwrap();
        log.write_all(b"two\n").unwrap();
        log.flush();
        assert_eq!(log.0.waiting.lock().lost, 2);
    }
}
