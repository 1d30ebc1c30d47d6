//! No two sequential znodes of a parent get the same number, and later ones get higher ones.

use std::collections::BTreeMap;

use oxkeeper_sim::Violation;

use crate::history::History;
use crate::model::parent_of;
use crate::op::{Create, Op};
use crate::reply::{Body, Item, Reply};
use crate::truth::Truth;

pub(super) fn check(history: &History, truth: &Truth) -> Result<(), Violation> {
    // By parent and its creation; a parent that is made anew counts anew. Then by zxid and place.
    let mut numbers: BTreeMap<(&str, i64), BTreeMap<(i64, usize), u64>> = BTreeMap::new();
    for connection in &history.connections {
        for (sent, reply, _) in connection.replies() {
            let Some(state) = truth.state(reply.zxid) else {
                continue;
            };
            for (place, create, path) in created(&sent.op, reply) {
                let parent = parent_of(&create.path);
                // A multi may have deleted it again.
                let Some(node) = state.tree.get(parent) else {
                    continue;
                };
                if let Some(number) = number(create, path) {
                    let of_parent = numbers.entry((parent, node.czxid)).or_default();
                    of_parent.insert((reply.zxid, place), number);
                }
            }
        }
    }
    for ((parent, _), numbers) in &numbers {
        for (earlier, later) in numbers.iter().zip(numbers.iter().skip(1)) {
            if later.1 <= earlier.1 {
                return Err(Violation::new(
                    "sequence numbers are unique and rise",
                    format!(
                        "below {parent}: {} at zxid {:#x} after {} at {:#x}",
                        later.1, later.0.0, earlier.1, earlier.0.0
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// The creates of a request that took effect, with their place in it and the paths they made.
fn created<'a>(op: &'a Op, reply: &'a Reply) -> Vec<(usize, &'a Create, &'a str)> {
    match (op, &reply.body) {
        (Op::Create(create), Body::Path(path) | Body::PathStat(path, _)) => {
            vec![(0, create, path)]
        }
        (Op::Multi(ops), Body::Results(items)) => {
            let pairs = ops.iter().zip(items).enumerate();
            let made = pairs.filter_map(|(place, pair)| match pair {
                (Op::Create(create), Item::Created(path, _)) => {
                    Some((place, create, path.as_str()))
                }
                _ => None,
            });
            made.collect()
        }
        _ => Vec::new(),
    }
}

fn number(create: &Create, path: &str) -> Option<u64> {
    let is_sequential = matches!(create.flags, 2 | 3 | 6);
    let suffix = path.strip_prefix(create.path.as_str())?;
    suffix.parse().ok().filter(|_| is_sequential)
}
