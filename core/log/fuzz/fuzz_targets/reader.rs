//! Any bytes as segment files: see `oxkeeper_log::fuzzing`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| oxkeeper_log::fuzzing::examine(data));
