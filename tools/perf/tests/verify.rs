//! The generator against a server that misbehaves in a known way: it must say so, and must not say so otherwise.

#![allow(clippy::unwrap_used)]

mod fake;

use std::time::Duration;

use clap::Parser;
use fake::{Fake, Fault};
use oxkeeper_perf::{PerfArgs, PerfOptions, Report, run};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    perf: PerfArgs,
}

fn run_on(fake: &Fake, arguments: &str) -> Report {
    let znodes = if arguments.contains("--znodes") {
        ""
    } else {
        "--znodes 20"
    };
    let common = format!(
        "perf --quiet --servers {} --warmup-s 0 {znodes} {arguments}",
        fake.address
    );
    let args = Cli::parse_from(common.split_whitespace()).perf;
    run(PerfOptions::try_from(args).unwrap()).unwrap()
}

#[test]
fn every_workload_passes_and_leaves_nothing_behind() {
    for workload in [
        "get",
        "set",
        "create",
        "mixed",
        "multi",
        "session",
        "watch",
        "watch --persistent-watch",
    ] {
        let fake = Fake::start(Fault::None, 0);
        let report = run_on(&fake, &format!("-w {workload} -c 3 -p 4 --count 200"));
        assert!(report.passed, "{workload}: {report}");
        assert!(report.operations >= 200, "{workload}: {report}");
        assert_eq!(fake.znodes(), 0, "{workload}");
        let setting_up = 2;
        assert_eq!(fake.sessions_left(), setting_up, "{workload}");
        if workload != "watch" {
            assert_eq!(
                report.latency.count, report.operations,
                "{workload}: {report}"
            );
        }
    }
}

#[test]
fn a_count_is_met_exactly_over_several_threads() {
    let fake = Fake::start(Fault::None, 0);
    let report = run_on(&fake, "-w get -c 5 -p 3 --threads 2 --count 1001");
    assert_eq!((report.operations, report.passed), (1001, true), "{report}");
}

#[test]
fn wrong_replies_are_noticed() {
    let cases = [
        (Fault::FlipData, "get", "the data is not that of version"),
        (Fault::ForgetSet, "set", "after a set, not"),
        (Fault::WrongXid, "get", "reply to xid"),
        (Fault::WrongPath, "create", "instead of"),
        (Fault::DoubleEvent, "watch", "second event"),
        (Fault::DropEvent, "watch", "never came"),
    ];
    for (fault, workload, text) in cases {
        let fake = Fake::start(fault, 100);
        let report = run_on(
            &fake,
            &format!("-w {workload} -c 3 -p 4 --count 400 --allow-errors"),
        );
        assert!(!report.passed, "{fault:?}: {report}");
        let samples = report.mismatch_samples.join("\n");
        assert!(samples.contains(text), "{fault:?}: {report}");
    }
}

#[test]
fn a_lost_connection_is_an_error_but_the_session_goes_on() {
    for workload in ["set", "multi", "mixed"] {
        let fake = Fake::start(Fault::Cut, 100);
        let report = run_on(&fake, &format!("-w {workload} -c 3 -p 4 --duration-s 0.4"));
        assert!(!report.passed, "{workload}: {report}");
        assert_eq!(report.reconnects, 1, "{workload}: {report}");
        assert_eq!(report.mismatches, 0, "{workload}: {report}");
        assert!(
            (1..=4).contains(&report.unanswered),
            "what was in flight: {workload}: {report}"
        );
        let errors: Vec<_> = report.errors.into_iter().collect();
        assert_eq!(
            errors,
            [(
                "connection lost with requests in flight: closed by the server".to_owned(),
                1
            )]
        );
    }
}

#[test]
fn an_acknowledged_write_that_is_lost_with_the_connection_is_noticed() {
    let fake = Fake::start(Fault::CutAndUndo, 100);
    let report = run_on(
        &fake,
        "-w set -c 1 -p 1 --znodes 1 --count 400 --allow-errors",
    );
    assert!(report.mismatches > 0, "{report}");
}

#[test]
fn an_open_loop_charges_a_stall_to_every_operation_that_was_due() {
    let stall = Duration::from_millis(400);
    let fake = Fake::start(Fault::Stall(stall), 200);
    let report = run_on(&fake, "-w get -c 1 -p 8 --rate 1000 --duration-s 1");
    assert!(report.passed, "{report}");
    assert_eq!(report.operations, 1000, "{report}");
    assert!(report.longest_gap_ms >= 390.0, "{report}");
    // 400 of 1000 operations were due during the stall; half of them waited more than 200 ms.
    assert!(report.latency.p90_us > 150_000.0, "{report}");
    assert!(report.latency.max_us >= 390_000.0, "{report}");
}

#[test]
fn operations_that_could_not_be_sent_are_reported() {
    let fake = Fake::start(Fault::Stall(Duration::from_millis(700)), 100);
    let report = run_on(&fake, "-w get -c 1 -p 4 --rate 1000 --duration-s 0.5");
    assert!(report.unanswered >= 300, "{report}");
    assert!(
        report.latency.p50_us > 100_000.0,
        "what waited is in the percentiles: {report}"
    );
}

#[test]
fn kept_znodes_are_found_again_and_stay() {
    let fake = Fake::start(Fault::None, 0);
    let populated = run_on(&fake, "-w populate --znodes 250");
    assert!(populated.passed);
    assert_eq!(fake.znodes(), 251, "and the root");
    let wrote = run_on(&fake, "-w set -c 2 --znodes 250 --count 600");
    assert!(wrote.passed, "{wrote}");
    let read = run_on(&fake, "-w get -c 2 --znodes 260 --count 600 --threads 2");
    assert!(read.passed, "{read}");
    assert_eq!(fake.znodes(), 261);
}

#[test]
fn senseless_options_are_refused() {
    for arguments in [
        "-c 0",
        "-p 0",
        "--rate 0",
        "--rate NaN",
        "--root /",
        "--root a",
        "--read-percent 101",
    ] {
        let args = Cli::parse_from(format!("perf {arguments}").split_whitespace()).perf;
        assert!(PerfOptions::try_from(args).is_err(), "{arguments}");
    }
}
