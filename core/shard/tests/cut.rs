//! A log that lost its end: what is said of it.

mod support;

use oxkeeper_link::contract::set;
use support::{Driven, LINK, Machine, options, write};

#[test]
fn a_flipped_bit_in_the_last_entry_is_told_with_its_place() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    let grant = driven.session(LINK, 1_000_000);
    for seq in 1..=3 {
        driven.request(LINK, write(&grant, seq, seq, set("/", "a value")));
        driven.turn();
        driven.run_all();
    }
    let applied = driven.shard.applied();
    drop(driven);
    machine.crash(1);
    let whole = Driven::open(&machine, options());
    assert_eq!(whole.shard.log_cut(), None);
    drop(whole);
    machine.crash(2);
    let names = oxkeeper_log::Disk::list(&machine.disk).expect("listed");
    let name = names.last().expect("a segment");
    let mut content = machine.disk.content(name).expect("listed");
    let last = content.iter().rposition(|&byte| byte != 0);
    content[last.expect("it holds something")] ^= 1;
    machine.disk.put(name, content);
    let driven = Driven::open(&machine, options());
    let cut = driven.shard.log_cut().expect("it is told");
    assert_eq!((&cut.file, cut.first, cut.plain), (name, applied, true));
    assert!(cut.bytes > 0 && cut.position > 4096, "{cut}");
}
