//! Sessions as clients see them: open, call, reattach, close. Also the first check that the
//! harness itself works on the server that it was given.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use oxkeeper_compat_tests::proto::{err, event, mode};
use oxkeeper_compat_tests::server::{ServerOptions, start};
use oxkeeper_compat_tests::session::Session;

#[test]
fn a_client_creates_reads_watches_lists_and_deletes() {
    let server = start(&ServerOptions::default()).unwrap();
    let mut s = Session::open(server.addr()).unwrap();
    assert_eq!(s.create("/a", b"one", mode::PERSISTENT).unwrap(), "/a");
    assert_eq!(
        s.create("/a/b-", b"", mode::EPHEMERAL_SEQUENTIAL).unwrap(),
        "/a/b-0000000000"
    );
    assert_eq!(s.get("/a", true).unwrap().0.as_deref(), Some(&b"one"[..]));
    assert_eq!(s.set("/a", b"two", 0).unwrap().version, 1);
    assert_eq!(
        s.next_event_pair().unwrap(),
        (event::DATA_CHANGED, "/a".to_owned())
    );
    assert_eq!(s.children("/a", false).unwrap().0, ["b-0000000000"]);
    assert_eq!(s.delete("/a", -1).unwrap_err().code(), Some(err::NOT_EMPTY));
    s.delete("/a/b-0000000000", 0).unwrap();
    s.delete("/a", 1).unwrap();
    assert_eq!(s.exists("/a", false).unwrap(), None);
    s.close().unwrap();
}

#[test]
fn data_and_session_survive_a_restart_of_the_server() {
    let mut server = start(&ServerOptions::default()).unwrap();
    let mut s = Session::open(server.addr()).unwrap();
    s.create("/kept", b"x", mode::PERSISTENT).unwrap();
    s.create("/mine", b"", mode::EPHEMERAL).unwrap();
    server.restart().unwrap();
    let mut s = s.reattach(server.addr()).unwrap();
    assert_eq!(s.get("/kept", false).unwrap().0.as_deref(), Some(&b"x"[..]));
    assert_eq!(s.stat("/mine").unwrap().ephemeral_owner, s.id);
    s.close().unwrap();
}
