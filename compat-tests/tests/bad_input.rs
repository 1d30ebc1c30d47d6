//! Bytes that no client should send. Each is answered by a clear error or a closed connection;
//! memory stays bounded, and a session that behaves notices nothing.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oxkeeper_compat_tests::bed::Bed;
use oxkeeper_compat_tests::conn::{Conn, ConnError, ConnectRequest, DEADLINE, four_letter_word};
use oxkeeper_compat_tests::jute::Writer;
use oxkeeper_compat_tests::proto::{Reply, Request, err, mode, op};
use oxkeeper_compat_tests::rng::Rng;
use oxkeeper_compat_tests::server::ServerOptions;
use oxkeeper_compat_tests::session::{
    Session, check_request, create_request, eventually, set_request,
};

/// The largest frame that is accepted (`jute.maxbuffer`).
const FRAME_MAX_BYTES: usize = 0xf_ffff;
/// What a server may keep beyond what it had, after any of these tests.
const GROWTH_MAX_KIB: u64 = 200 * 1024;

/// A client that behaves, at work on the same server while others do not.
struct Bystander {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<u64>,
    ready: mpsc::Receiver<()>,
}

impl Bystander {
    fn start(bed: &Bed) -> Self {
        let mut s = bed.session();
        let path = bed.at("/bystander");
        s.create(&path, b"", mode::EPHEMERAL).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (tell, ready) = mpsc::sync_channel(1);
        let worker = std::thread::spawn(move || {
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                let version = s.set(&path, b"x", rounds as i32).unwrap().version;
                rounds += 1;
                assert_eq!(version as u64, rounds);
                assert_eq!(s.stat(&path).unwrap().version as u64, rounds);
                let _ = tell.try_send(());
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(s.stat(&path).unwrap().ephemeral_owner, s.id);
            rounds
        });
        Self {
            stop,
            worker,
            ready,
        }
    }

    /// Waits until it has done a whole round after now.
    fn works(&self) {
        while self.ready.try_recv().is_ok() {}
        self.ready.recv_timeout(DEADLINE).unwrap();
        self.ready.recv_timeout(DEADLINE).unwrap();
    }

    fn finish(self) {
        self.works();
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.worker.join().unwrap() > 0);
    }
}

/// Resident memory of the server, where it is ours.
fn memory_kib(bed: &Bed) -> Option<u64> {
    // A JVM takes what it is given; the bound is for ours.
    if bed.server.is_oracle() {
        return None;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", bed.server.pid()?)).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs `harm` beside a bystander, and checks both and the memory afterwards.
fn undisturbed(harm: impl FnOnce(&Bed)) {
    let bed = Bed::new();
    let bystander = Bystander::start(&bed);
    bystander.works();
    let before = memory_kib(&bed);
    harm(&bed);
    bystander.finish();
    if let (Some(before), Some(after)) = (before, memory_kib(&bed)) {
        let grown = after.saturating_sub(before);
        assert!(grown < GROWTH_MAX_KIB, "memory grew by {grown} KiB");
    }
    bed.session().stat("/").unwrap();
}

/// Closed, or silent for a while and closed by us: no garbage may come back.
fn closed_without_reply(conn: &mut Conn) {
    conn.expect_close(DEADLINE).unwrap();
}

#[test]
fn garbage_instead_of_a_handshake_is_closed() {
    undisturbed(|bed| {
        let mut rng = Rng::new(1);
        for _ in 0..100 {
            let mut conn = Conn::open(bed.addr()).unwrap();
            let mut bytes = rng.bytes(64);
            // A negative length, so that the server need not wait for more.
            bytes[0] |= 0x80;
            let _ = conn.send_bytes(&bytes);
            closed_without_reply(&mut conn);
        }
        let other_protocols: [&[u8]; 2] = [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ];
        for bytes in other_protocols {
            let mut conn = Conn::open(bed.addr()).unwrap();
            let _ = conn.send_bytes(bytes);
            closed_without_reply(&mut conn);
        }
    });
}

#[test]
fn a_handshake_that_is_no_record_is_closed() {
    undisturbed(|bed| {
        let good = ConnectRequest::new_session(10_000).encode();
        for keep in [0, 1, 4, 12, 16, 24, 27, 30, 43] {
            let mut conn = Conn::open(bed.addr()).unwrap();
            conn.send_frame(&good[..keep]).unwrap();
            closed_without_reply(&mut conn);
        }
        let mut wild_password = good.clone();
        wild_password[24..28].copy_from_slice(&i32::MAX.to_be_bytes());
        let mut conn = Conn::open(bed.addr()).unwrap();
        conn.send_frame(&wild_password).unwrap();
        closed_without_reply(&mut conn);
    });
}

#[test]
fn negative_and_oversized_frames_close_the_connection_and_not_the_session() {
    undisturbed(|bed| {
        for length in [-1, i32::MIN, FRAME_MAX_BYTES as i32 + 1, i32::MAX] {
            let mut s = bed.session();
            s.conn.send_bytes(&length.to_be_bytes()).unwrap();
            closed_without_reply(&mut s.conn);
            s.reattach(bed.addr()).unwrap();
            let mut conn = Conn::open(bed.addr()).unwrap();
            conn.send_bytes(&length.to_be_bytes()).unwrap();
            closed_without_reply(&mut conn);
        }
    });
}

#[test]
fn the_largest_frame_is_accepted_and_one_byte_more_is_not() {
    undisturbed(|bed| {
        let path = bed.at("/big");
        let mut s = bed.session();
        s.make(&path).unwrap();
        let overhead = set_request(&path, b"", -1).encode(0).len();
        let largest = vec![b'x'; FRAME_MAX_BYTES - overhead];
        s.set(&path, &largest, -1).unwrap();
        assert_eq!(s.get(&path, false).unwrap().0.as_ref(), Some(&largest));
        let mut too_large = largest;
        too_large.push(b'x');
        // The server may close before it has read all of it.
        let _ = s.send(&[set_request(&path, &too_large, -1)]);
        closed_without_reply(&mut s.conn);
        let mut s = s.reattach(bed.addr()).unwrap();
        assert_eq!(s.stat(&path).unwrap().version, 1);
    });
}

#[test]
fn frames_shorter_than_a_header_close_the_connection() {
    undisturbed(|bed| {
        for len in 0..8 {
            let mut s = bed.session();
            s.conn.send_frame(&vec![0; len]).unwrap();
            closed_without_reply(&mut s.conn);
            s.reattach(bed.addr()).unwrap();
        }
    });
}

#[test]
fn truncated_records_are_answered_with_minus_5_and_the_connection_goes_on() {
    undisturbed(|bed| {
        let path = bed.at("/a");
        let requests = [
            create_request(op::CREATE, &path, b"data", mode::PERSISTENT),
            create_request(op::CREATE2, &path, b"data", mode::PERSISTENT),
            set_request(&path, b"data", -1),
            oxkeeper_compat_tests::session::delete_request(&path, -1),
            Request::GetData {
                path: Some(path.clone()),
                watch: true,
            },
            Request::AddWatch {
                path: Some(path.clone()),
                mode: 1,
            },
            Request::Multi(vec![check_request(&path, 1)]),
        ];
        let mut s = bed.session();
        for request in &requests {
            let whole = request.encode(0);
            for keep in 8..whole.len() {
                let body = whole[8..keep].to_vec();
                let op = request.op();
                let (header, _) = s.exchange(Request::Raw { op, body }).unwrap();
                assert_eq!(header.err, err::MARSHALLING, "{request:?} cut to {keep}");
            }
        }
        assert_eq!(s.exists(&path, false).unwrap(), None);
    });
}

#[test]
fn wild_lengths_inside_a_record_take_no_memory() {
    undisturbed(|bed| {
        let path = bed.at("/a");
        let with_acl_count = |count: i32| {
            Writer::new()
                .string(Some(&path))
                .buffer(Some(b""))
                .int(count)
                .finish()
        };
        let mut s = bed.session();
        for round in 0..50 {
            let wild = i32::MAX - round;
            let bodies = [
                (op::CREATE, with_acl_count(wild)),
                (op::CREATE, Writer::new().int(wild).finish()),
                (op::GET_DATA, Writer::new().int(wild).finish()),
                (op::SET_WATCHES, Writer::new().long(0).int(wild).finish()),
                (
                    op::SET_DATA,
                    Writer::new().string(Some(&path)).int(wild).finish(),
                ),
            ];
            for (op, body) in bodies {
                match s.exchange(Request::Raw { op, body }) {
                    Ok((header, _)) => assert_eq!(header.err, err::MARSHALLING),
                    Err(e) => panic!("{e}"),
                }
            }
        }
    });
}

#[test]
fn random_bodies_for_every_opcode_never_harm_anyone() {
    undisturbed(|bed| {
        let mut rng = Rng::new(7);
        let mut s = bed.session();
        for round in 0..2_000 {
            // Not deleteContainer, createSession and closeSession: those are not harmless.
            let op = *rng.pick(&[
                1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 18, 19, 22, 101, 103, 104, 105, 106,
                107,
            ]);
            let len = rng.below(120);
            let mut body = rng.bytes(len);
            if rng.percent(50) && body.len() > 4 {
                // A plausible length first, so that parsing gets further.
                let first = rng.below(body.len()) as i32;
                body[..4].copy_from_slice(&first.to_be_bytes());
            }
            let ping = Request::Ping;
            s.send(&[Request::Raw { op, body }, ping]).unwrap();
            for _ in 0..2 {
                // A body may happen to be valid: what counts is that an answer comes, in turn.
                match s.receive(DEADLINE) {
                    Ok(_) => {}
                    Err(e) => panic!("round {round}, type {op}: {e}"),
                }
            }
        }
    });
}

#[test]
fn half_open_connections_are_closed_and_their_ephemerals_go_in_time() {
    undisturbed(|bed| {
        let mut half = Session::open_with_timeout(bed.addr(), 1_000).unwrap();
        let path = bed.at("/of-the-half-open-one");
        half.create(&path, b"", mode::EPHEMERAL).unwrap();
        half.conn.shutdown(Shutdown::Write);
        half.conn.expect_close(DEADLINE).unwrap();
        let mut s = bed.session();
        eventually("the session expires", || {
            s.exists(&path, false).unwrap().is_none()
        });
        // A connection that stops in the middle of a frame.
        let mut conn = Conn::open(bed.addr()).unwrap();
        conn.send_bytes(&[0, 0, 0, 45, 0, 0]).unwrap();
        conn.shutdown(Shutdown::Write);
        closed_without_reply(&mut conn);
    });
}

#[test]
fn a_session_that_goes_silent_without_a_fin_expires_and_its_connection_is_closed() {
    undisturbed(|bed| {
        let mut silent = Session::open_with_timeout(bed.addr(), 1_000).unwrap();
        let path = bed.at("/of-the-silent-one");
        silent.create(&path, b"", mode::EPHEMERAL).unwrap();
        silent.conn.expect_close(DEADLINE).unwrap();
        assert_eq!(bed.session().exists(&path, false).unwrap(), None);
    });
}

#[test]
fn a_client_that_reads_nothing_does_not_fill_the_memory() {
    undisturbed(|bed| {
        const REQUESTS: usize = 4_000;
        let path = bed.at("/big");
        let mut s = bed.session();
        s.create(&path, &vec![b'x'; 500_000], mode::PERSISTENT)
            .unwrap();
        // 2 GB of answers, were they all written at once.
        let get = Request::GetData {
            path: Some(path),
            watch: false,
        };
        let Ok(local) = s.conn.local_addr() else {
            panic!("not connected");
        };
        let frames: Vec<Vec<u8>> = (0..REQUESTS).map(|i| get.encode(i as i32)).collect();
        s.conn.send_frames(&frames).unwrap();
        // The server has had time to read them all when others have been served for a while.
        let mut other = bed.session();
        for _ in 0..200 {
            other.sync("/").unwrap();
        }
        if let Some(kib) = memory_kib(bed) {
            assert!(kib < 700 * 1024, "{kib} KiB for answers to {local}");
        }
        // And they all come when they are asked for.
        for _ in 0..20 {
            assert!(s.conn.read_frame(DEADLINE).unwrap().len() > 500_000);
        }
    });
}

#[test]
fn a_giant_multi_is_answered_as_a_whole_or_refused() {
    undisturbed(|bed| {
        let mut s = bed.session();
        let root = bed.root.clone();
        // As many operations as one frame holds.
        let one = Request::Multi(vec![check_request(&root, -1)])
            .encode(0)
            .len()
            - 17;
        let count = (FRAME_MAX_BYTES - 17) / one;
        let (header, reply) = s
            .exchange(Request::Multi(vec![check_request(&root, -1); count]))
            .unwrap();
        assert_eq!(header.err, 0);
        assert!(matches!(reply, Reply::Multi(results) if results.len() == count));
        let creates: Vec<Request> = (0..10_000)
            .map(|i| create_request(op::CREATE, &format!("{root}/n{i}"), b"", mode::PERSISTENT))
            .collect();
        let (header, reply) = s.exchange(Request::Multi(creates)).unwrap();
        let Reply::Multi(results) = reply else {
            panic!("{header:?}");
        };
        assert!(results.iter().all(|r| r.kind == op::CREATE));
        let stat = s.stat(&root).unwrap();
        assert!(stat.pzxid <= header.zxid);
        // The bystander has its node there as well.
        assert_eq!(stat.num_children, 10_001);
        let first = s.stat(&format!("{root}/n0")).unwrap();
        let last = s.stat(&format!("{root}/n9999")).unwrap();
        assert_eq!([first.czxid, last.czxid], [stat.pzxid; 2]);
    });
}

#[test]
fn a_multi_whose_frame_is_too_large_closes_the_connection_and_does_nothing() {
    undisturbed(|bed| {
        let mut s = bed.session();
        let creates: Vec<Request> = (0..20_000)
            .map(|i| {
                create_request(
                    op::CREATE,
                    &bed.at(&format!("/n{i}")),
                    &[b'x'; 50],
                    mode::PERSISTENT,
                )
            })
            .collect();
        let _ = s.send(&[Request::Multi(creates)]);
        closed_without_reply(&mut s.conn);
        assert_eq!(bed.session().stat(&bed.root).unwrap().num_children, 1);
    });
}

#[test]
fn ten_thousand_connections_are_served_beside_the_others() {
    const CONNECTIONS: usize = 10_000;
    let bed = Bed::new();
    raise_open_files_limit();
    let bystander = Bystander::start(&bed);
    let started = Instant::now();
    let mut sessions = Vec::with_capacity(CONNECTIONS);
    let handshake = ConnectRequest::new_session(60_000);
    for i in 0..CONNECTIONS {
        let conn = Conn::open(bed.addr()).and_then(|mut c| {
            let response = c.handshake(&handshake)?;
            Ok((c, response))
        });
        match conn {
            Ok((conn, response)) => sessions.push(Session::from_handshake(conn, response).unwrap()),
            Err(e) => panic!("connection {i}: {e}"),
        }
    }
    for s in &mut sessions {
        s.send(&[Request::Ping]).unwrap();
    }
    for s in &mut sessions {
        assert_eq!(s.receive_reply().unwrap().0.err, 0);
    }
    bystander.works();
    if let Some(kib) = memory_kib(&bed) {
        assert!(kib < 500 * 1024, "{kib} KiB with {CONNECTIONS} connections");
    }
    let told = four_letter_word(bed.addr(), "srvr").unwrap();
    let count = told.lines().find_map(|l| l.strip_prefix("Connections: "));
    assert!(count.unwrap().parse::<usize>().unwrap() >= CONNECTIONS);
    eprintln!("{CONNECTIONS} connections in {:?}", started.elapsed());
    drop(sessions);
    bystander.finish();
}

fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

#[test]
fn connections_beyond_the_limit_of_an_address_are_closed_and_the_others_stay() {
    let options = ServerOptions {
        max_client_connections: 5,
        ..ServerOptions::default()
    };
    let Some(bed) = Bed::own(&options) else {
        return;
    };
    let mut held = Vec::new();
    let mut refused = 0;
    // The connections of the bed's own preparation may still count for a moment.
    for _ in 0..20 {
        let answer = Conn::open(bed.addr()).and_then(|mut conn| {
            let response = conn.handshake(&ConnectRequest::new_session(10_000))?;
            Ok((conn, response))
        });
        match answer {
            Ok((conn, response)) => held.push(Session::from_handshake(conn, response).unwrap()),
            Err(ConnError::Closed) => refused += 1,
            Err(e) => panic!("neither served nor closed: {e}"),
        }
    }
    assert!(
        (4..=5).contains(&held.len()) && refused >= 15,
        "{} held",
        held.len()
    );
    for s in &mut held {
        s.ping().unwrap();
    }
    held.clear();
    eventually("there is room again", || Session::open(bed.addr()).is_ok());
}
