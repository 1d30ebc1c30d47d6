//! Runs seeds on all processors.
#![allow(clippy::disallowed_methods, dead_code, unreachable_pub)]

use std::ops::Range;
use std::sync::Mutex;
use std::thread;

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What `run` makes of each seed, in the order of the seeds.
pub fn in_parallel<T: Send>(seeds: Range<u64>, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = Mutex::new(seeds);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(seed) = next.lock().expect("no panic").next() else {
                        break;
                    };
                    let result = run(seed);
                    done.lock().expect("no panic").push((seed, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no panic");
    done.sort_by_key(|(seed, _)| *seed);
    done.into_iter().map(|(_, result)| result).collect()
}
