//! The model of a tree against what Apache ZooKeeper answered; see `examples/record.rs`.

use oxkeeper_wire::Stat;
use oxkeeper_zk_sim::client::Requests;
use oxkeeper_zk_sim::model::{Caller, Moment, Tree};
use oxkeeper_zk_sim::op::Op;
use oxkeeper_zk_sim::reply::{Body, Item, Reply};

const RECORDED: &str = include_str!("data/recorded.txt");

#[test]
fn the_model_answers_as_zookeeper_did() {
    let mut lines = RECORDED.lines();
    let (seed, session) = lines.next().unwrap().split_once(' ').unwrap();
    let mut requests = Requests::new(seed.parse().unwrap());
    let mut caller = Caller {
        session: i64::from_str_radix(session, 16).unwrap(),
        ..Caller::default()
    };
    let (mut tree, mut zxid, mut compared) = (Tree::fresh(), 1, 0);
    for (index, line) in lines.enumerate() {
        let op = requests.next(index);
        let mut told = Reply::decode(&op, &bytes(line)).unwrap();
        requests.on_reply(&op, &told);
        if let Op::Auth { credentials } = op {
            caller.authenticate(credentials);
            continue;
        }
        let at = Moment {
            zxid: zxid + 1,
            wall_ms: 0,
            elapsed_ms: 0,
        };
        let expected = match tree.write(&op, &caller, at) {
            Some((answer, step)) => {
                zxid += 1;
                tree = step.map_or(tree, |step| step.tree);
                Some(answer)
            }
            None => tree.read(&op, &caller),
        };
        without_times(&mut told.body);
        assert_eq!(told.zxid, zxid, "{index}: {op:?}");
        if let Some(expected) = expected {
            assert_eq!(told.err, expected.err, "{index}: {op:?}");
            assert_eq!(told.body, expected.body, "{index}: {op:?}");
            compared += 1;
        }
    }
    assert!(compared > 500, "{compared}");
}

fn bytes(line: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).expect("hex");
    (0..line.len()).step_by(2).map(byte).collect()
}

fn without_times(body: &mut Body) {
    let clear = |stat: &mut Stat| (stat.ctime_ms, stat.mtime_ms) = (0, 0);
    match body {
        Body::PathStat(_, stat)
        | Body::Stat(stat)
        | Body::Data(_, stat)
        | Body::NamesStat(_, stat)
        | Body::Acl(_, stat) => clear(stat),
        Body::Results(items) => {
            for item in items {
                match item {
                    Item::Created(_, Some(stat)) | Item::Set(stat) | Item::Data(_, stat) => {
                        clear(stat);
                    }
                    _ => {}
                }
            }
        }
        Body::Nothing | Body::Path(_) | Body::Names(_) | Body::Number(_) => {}
    }
}
