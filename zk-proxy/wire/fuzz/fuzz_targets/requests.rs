//! Frames, handshakes, requests and replies from arbitrary bytes; the same entry as the bounded run in the tests.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| oxkeeper_wire::fuzz::exercise(bytes));
