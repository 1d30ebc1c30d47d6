//! What clients see when the link to the shard breaks and comes back.

use bytes::Bytes;
use oxkeeper_model::{Create, Lifetime, TreeOp};
use oxkeeper_session::SessionOptions;
use oxkeeper_wire::client::decode_reply;
use oxkeeper_wire::{ErrorCode, EventType, Request, SetDataRequest};

use crate::world::World;
use crate::world::shard::open;

const CREATED: i32 = EventType::NodeCreated as i32;
const DELETED: i32 = EventType::NodeDeleted as i32;
const CHANGED: i32 = EventType::NodeDataChanged as i32;
const CHILDREN: i32 = EventType::NodeChildrenChanged as i32;

fn create(path: &str) -> TreeOp {
    TreeOp::Create(Create {
        path: path.into(),
        value: Some(Bytes::from_static(b"0")),
        acl: open(),
        lifetime: Lifetime::Persistent,
        sequential: false,
        malformed: false,
    })
}

fn delete(path: &str) -> TreeOp {
    TreeOp::Delete {
        path: path.into(),
        expected_version: None,
    }
}

fn set(path: &str) -> TreeOp {
    TreeOp::SetValue {
        path: path.into(),
        value: Some(Bytes::from_static(b"1")),
        expected_version: None,
    }
}

fn get(path: &str) -> Request<'_> {
    Request::GetData {
        path: Some(path.into()),
        watch: true,
    }
}

fn exists(path: &str) -> Request<'_> {
    Request::Exists {
        path: Some(path.into()),
        watch: true,
    }
}

fn world(paths: &[&str], clients: usize) -> World {
    let mut world = World::new(7, SessionOptions::default());
    for path in paths {
        world.shard.change_unheard(create(path));
    }
    world.break_link();
    world.open_link(false);
    for _ in 0..clients {
        world.connect();
    }
    world.run();
    world
}

/// The events of a client, sorted: those of one gap come in no particular order.
fn events(world: &World, client: usize) -> Vec<(i32, &str)> {
    let events = world.clients[client].events.iter();
    let mut events: Vec<_> = events
        .map(|(kind, path, _)| (*kind, path.as_str()))
        .collect();
    events.sort_unstable();
    events
}

#[test]
fn a_gap_fires_what_the_records_show_to_be_missed_and_nothing_else() {
    let existing = ["/set", "/deleted", "/again", "/same", "/parent"];
    let mut world = world(&existing, 1);
    for (tag, path) in existing.iter().enumerate() {
        world.clients[0].request(tag, &get(path));
    }
    for (tag, path) in ["/created", "/still-absent", "/deleted"].iter().enumerate() {
        world.clients[0].request(10 + tag, &exists(path));
    }
    world.run();
    world.break_link();
    world.shard.change_unheard(set("/set"));
    world.shard.change_unheard(delete("/deleted"));
    world.shard.change_unheard(delete("/again"));
    world.shard.change_unheard(create("/again"));
    world.shard.change_unheard(create("/created"));
    world.run();
    assert_eq!(events(&world, 0), []);
    world.open_link(false);
    world.run();
    let missed = [
        (CREATED, "/created"),
        (DELETED, "/again"),
        (DELETED, "/deleted"),
        (CHANGED, "/set"),
    ];
    assert_eq!(events(&world, 0), missed);

    world.clients[0].request(20, &get("/created"));
    world.shard.change_unheard(set("/same"));
    world.break_link();
    world.open_link(false);
    world.run();
    assert_eq!(
        events(&world, 0).len(),
        5,
        "what has fired does not fire again"
    );
    world.check_nobody_waits();
}

#[test]
fn nothing_newer_is_read_before_the_watches_of_a_gap_have_fired() {
    let mut world = world(&["/a"], 2);
    world.clients[0].request(0, &get("/a"));
    world.run();
    world.clients[0].request(1, &Request::Ping);
    world.break_link();
    world.shard.change_unheard(set("/a"));
    world.open_link(false);
    // The answer about what is watched is not there yet.
    world.clients[0].request(2, &get("/a"));
    world.run();
    let client = &world.clients[0];
    let [(kind, _, replies_before)] = &client.events[..] else {
        panic!("{:?}", client.events);
    };
    let newer = client.replies.iter().position(|(tag, frame)| {
        *tag == 2
            && decode_reply(frame)
                .expect("a reply")
                .data_and_stat()
                .expect("data")
                .0
                == Some(b"1")
    });
    assert_eq!(*kind, CHANGED);
    assert!(newer.expect("it reads what is new") >= *replies_before);
    world.check_nobody_waits();
}

#[test]
fn a_gap_closes_connections_with_lasting_watches_and_those_whose_sessions_ended() {
    let mut world = world(&["/a"], 4);
    let sessions = world.front_end.connections();
    let sessions: Vec<_> = sessions
        .iter()
        .map(|connection| connection.session().0)
        .collect();
    let with_session = |id| {
        sessions
            .iter()
            .position(|session| *session == id)
            .expect("it is there")
    };
    for (client, mode) in [(with_session(1), 0), (with_session(2), 1)] {
        let request = Request::AddWatch {
            path: Some("/a".into()),
            mode,
        };
        world.clients[client].request(0, &request);
    }
    world.run();
    world.break_link();
    world.shard.end_last_session();
    world.open_link(false);
    world.run();
    let is_closed = |id| world.clients[with_session(id)].is_closed();
    assert_eq!([1, 2, 3, 4].map(is_closed), [true, true, false, true]);
}

#[test]
fn what_was_unanswered_is_sent_again_when_the_link_is_back() {
    let mut world = world(&["/a"], 1);
    world.break_link();
    let request = Request::SetData(SetDataRequest {
        path: Some("/a".into()),
        data: Some(b"1"),
        version: -1,
    });
    for tag in 0..50 {
        world.clients[0].request(tag, &request);
    }
    world.clients[0].request(50, &get("/a"));
    world.run();
    assert_eq!(world.clients[0].unanswered(), 51);
    world.open_link(true);
    world.run();
    assert_eq!((world.clients[0].unanswered(), world.shard.writes), (0, 50));
    let last = &world.clients[0].replies[50].1;
    assert_eq!(decode_reply(last).expect("a reply").err, ErrorCode::OK);
}

#[test]
fn a_link_that_stays_broken_closes_everybody_in_time() {
    let mut world = world(&["/a"], 2);
    world.clients[0].request(0, &get("/a"));
    world.run();
    world.break_link();
    assert!(!world.front_end.check_link(world.now()));
    world.clients[0].request(1, &get("/a"));
    world.run();
    assert_eq!(
        world.clients[0].unanswered(),
        0,
        "for a while the view is good enough"
    );
    world.wait_us(u64::from(SessionOptions::default().min_timeout_ms) * 1000 / 2);
    assert!(world.front_end.check_link(world.now()));
    world.run();
    assert!(world.clients.iter().all(|client| client.is_closed()));
}

#[test]
fn a_shard_without_room_delays_everybody_and_closes_nobody() {
    let mut world = world(&["/a"], 3);
    for round in 0..20 {
        world.shard.set_busy(true);
        for client in 0..3 {
            let request = Request::SetData(SetDataRequest {
                path: Some("/a".into()),
                data: Some(b"1"),
                version: -1,
            });
            for tag in 0..100 {
                world.clients[client].request(round * 100 + tag, &request);
            }
        }
        world.run();
        world.front_end.send_heartbeat();
        assert!(world.clients.iter().any(|client| client.unanswered() > 0));
        world.shard.set_busy(false);
        world.front_end.send_heartbeat();
        world.run();
        world.check_nobody_waits();
    }
    assert!(world.clients.iter().all(|client| !client.is_closed()));
    assert_eq!(world.shard.writes, 6000);
}

#[test]
fn children_of_a_watched_parent_that_came_and_went_are_told() {
    let mut world = world(&["/p"], 1);
    let request = Request::GetChildren {
        path: Some("/".into()),
        watch: true,
    };
    world.clients[0].request(0, &request);
    world.run();
    world.break_link();
    world.shard.change_unheard(create("/q"));
    world.open_link(false);
    world.run();
    assert_eq!(events(&world, 0), [(CHILDREN, "/")]);
}

#[test]
fn a_link_that_breaks_for_long_amid_a_gap_leaves_nobody_waiting() {
    let mut world = world(&["/a"], 1);
    world.clients[0].request(0, &get("/a"));
    world.run();
    world.break_link();
    world.shard.change_unheard(set("/a"));
    world.open_link(false);
    // Before the answer about what is watched.
    world.break_link();
    assert!(!world.front_end.check_link(world.now()));
    world.wait_us(u64::from(SessionOptions::default().min_timeout_ms) * 1000);
    assert!(world.front_end.check_link(world.now()));
    world.run();
    world.open_link(true);
    let late = world.connect();
    world.clients[late].request(0, &get("/a"));
    world.run();
    assert_eq!(world.clients[late].unanswered(), 0);
}

#[test]
fn a_ping_between_writes_is_not_answered_with_a_later_position() {
    let mut world = world(&["/a"], 1);
    let write = Request::SetData(SetDataRequest {
        path: Some("/a".into()),
        data: Some(b"1"),
        version: -1,
    });
    world.break_link();
    for (tag, request) in [&write, &Request::Ping, &write].into_iter().enumerate() {
        world.clients[0].request(tag, request);
    }
    world.run();
    world.open_link(true);
    world.run();
    assert!(world.clients[0].is_closed());
}
