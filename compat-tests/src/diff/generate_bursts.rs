//! Bursts: more requests or more bytes in one write than a server lets be under way on one connection.

use super::generate_ops as ops;
use super::generate_values as values;
use super::plan::Call;
use crate::proto::Request;
use crate::rng::Rng;

/// ZooKeeper stops to read at 1,000 requests; so do others, or at another round number.
const REQUESTS_MIN: usize = 1001;
const REQUESTS_SPREAD: usize = 600;

/// Sizes of values that together are more than 4 MiB, each within a packet.
const LARGE_VALUES: usize = 6;
const LARGE_VALUE_BYTES: usize = 900_000;

/// A value that caches treat otherwise than small ones.
const MIDDLE_VALUE_BYTES: usize = 5000;

pub(super) fn burst(rng: &mut Rng) -> Vec<Call> {
    match rng.below(3) {
        0 => many_writes(rng),
        1 => many_of_all_kinds(rng),
        _ => large_values(rng),
    }
}

/// A value that another session is to read between two of its own writes.
pub(super) fn middle_value(rng: &mut Rng) -> (String, Vec<Call>) {
    let path = values::good_path(rng);
    let bytes = MIDDLE_VALUE_BYTES + rng.below(MIDDLE_VALUE_BYTES);
    let call = set(&path, vec![b'm'; bytes]);
    (path, vec![call])
}

/// Sets and gets of one path, each get between two sets.
pub(super) fn sets_around_gets(rng: &mut Rng, path: &str) -> Vec<Call> {
    let first = set(&values::good_path(rng), b"first".to_vec());
    let rounds = 1 + rng.below(5);
    let pairs = (0..rounds).flat_map(|round| [get(path), set(path, vec![round as u8; 3])]);
    [first].into_iter().chain(pairs).collect()
}

fn many_writes(rng: &mut Rng) -> Vec<Call> {
    let count = REQUESTS_MIN + rng.below(REQUESTS_SPREAD);
    let path = values::good_path(rng);
    (0..count)
        .map(|number| set(&path, number.to_string().into_bytes()))
        .collect()
}

fn many_of_all_kinds(rng: &mut Rng) -> Vec<Call> {
    let count = REQUESTS_MIN + rng.below(REQUESTS_SPREAD);
    let mut calls = Vec::with_capacity(count);
    while calls.len() < count {
        match ops::call(rng) {
            // Nothing is pipelined behind it, see `allowed::NOT_SENT`.
            Call::Plain(Request::SetAcl { .. }) => {}
            call => calls.push(call),
        }
    }
    calls
}

/// One get at the end: this side reads nothing before all is written.
fn large_values(rng: &mut Rng) -> Vec<Call> {
    let path = values::good_path(rng);
    let value = |number: usize| {
        let bytes = if number % 3 == 2 {
            10
        } else {
            LARGE_VALUE_BYTES
        };
        set(&path, vec![number as u8; bytes])
    };
    let mut calls: Vec<_> = (0..LARGE_VALUES * 3 / 2).map(value).collect();
    calls.push(get(&path));
    calls
}

fn set(path: &str, data: Vec<u8>) -> Call {
    Call::Plain(Request::SetData {
        path: Some(path.to_owned()),
        data: Some(data),
        version: -1,
    })
}

fn get(path: &str) -> Call {
    Call::Plain(Request::GetData {
        path: Some(path.to_owned()),
        watch: false,
    })
}
