//! The link's contract over the transport within one process.

mod support;

use oxkeeper_link::contract::{TestShard, run_all};
use oxkeeper_node::NodeOptions;
use support::{Machine, options, shard};

#[test]
fn the_local_transport_keeps_the_contract_of_the_link() {
    run_all(|| {
        let options = NodeOptions {
            queue_requests_max: 256,
            history_bytes_max: 256 << 10,
            // Long enough that a busy machine lets no session end for want of a turn.
            session_tick_ms: 200,
            ..options()
        };
        let NodeOptions {
            queue_requests_max,
            history_bytes_max,
            session_tick_ms,
            ..
        } = options;
        let node = Machine::default().start(options);
        let shard = shard(&node);
        TestShard {
            shard,
            queue_requests_max,
            history_bytes_max,
            session_tick_ms,
            stop: Box::new(move || node.shutdown()),
        }
    });
}
