//! The disk does what it says, or no simulation on it shows anything.

use std::io::ErrorKind;

use super::*;

fn written(disk: &MemoryDisk, name: &str, bytes: &[u8]) -> MemoryFile {
    let file = disk.create(name, 8192).expect("created");
    disk.sync_dir().expect("synced");
    file.write_at(0, bytes).expect("written");
    file
}

fn durable(disk: &MemoryDisk, name: &str, bytes: &[u8]) -> MemoryFile {
    let file = written(disk, name, bytes);
    file.sync_data().expect("synced");
    file
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..100 {
        let disk = MemoryDisk::seeded(seed);
        drop(durable(&disk, "a", &[7; 5000]));
        disk.crash(seed);
        let content = disk.content("a").expect("named");
        assert_eq!((&content[..5000], content[5000]), (&[7; 5000][..], 0));
    }
}

#[test]
fn unsynced_sectors_are_kept_lost_or_torn_each_by_itself() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..100 {
        let disk = MemoryDisk::new();
        drop(written(&disk, "a", &[7; 8192]));
        disk.crash(seed);
        let content = disk.content("a").expect("named");
        for sector in content.chunks(inode::SECTOR_BYTES) {
            match sector.iter().filter(|&&byte| byte == 7).count() {
                0 => lost += 1,
                inode::SECTOR_BYTES => kept += 1,
                part => {
                    assert!(sector[..part].iter().all(|&byte| byte == 7));
                    torn += 1;
                }
            }
        }
    }
    assert!(
        lost > 100 && kept > 100 && torn > 10,
        "{lost} {kept} {torn}"
    );
}

#[test]
fn names_that_were_not_synced_come_in_any_subset_but_not_out_of_order() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = MemoryDisk::new();
        drop(disk.create("a", 0).expect("created"));
        disk.sync_dir().expect("synced");
        drop(disk.create("b", 0).expect("created"));
        disk.rename("b", "c").expect("renamed");
        disk.remove("a").expect("removed");
        disk.crash(seed);
        seen.insert(disk.list().expect("listed"));
    }
    let sets: Vec<String> = seen.iter().map(|names| names.join("")).collect();
    assert_eq!(sets, ["", "a", "ab", "ac", "b", "c"]);
}

#[test]
fn a_failed_sync_loses_what_reads_still_show() {
    let disk = MemoryDisk::new();
    let file = written(&disk, "a", b"new");
    disk.fail_syncs_after(0);
    file.sync_data().expect_err("injected");
    disk.heal();
    file.sync_data()
        .expect("nothing is left to do, says the system");
    assert_eq!(&disk.content("a").expect("named")[..3], b"new");
    drop(file);
    disk.crash(1);
    assert_eq!(&disk.content("a").expect("named")[..3], [0; 3]);
    assert_eq!(disk.counters().syncs_failed, 1);
}

#[test]
fn a_misdirected_write_shows_after_a_crash_and_somewhere_else() {
    for seed in 0..50 {
        let disk = MemoryDisk::seeded(seed);
        drop(durable(&disk, "b", &[1; 8192]));
        let file = durable(&disk, "a", &[2; 8192]);
        disk.misdirect_write_after(1);
        file.write_at(0, &[3; 100]).expect("written");
        file.write_at(1000, &[4; 100]).expect("written, it says");
        file.write_at(3200, &[5; 100]).expect("written");
        file.sync_data().expect("synced");
        assert_eq!(disk.content("a").expect("named")[1000..1100], [4; 100]);
        drop(file);
        disk.crash(seed);
        let (a, b) = (disk.content("a").unwrap(), disk.content("b").unwrap());
        assert_eq!(disk.counters().writes_misdirected, 1);
        let fours = |content: &[u8]| content.iter().filter(|&&byte| byte == 4).count();
        assert_eq!(fours(&a[1000..1100]), 0, "seed {seed}");
        assert_eq!(fours(&a) + fours(&b), 100, "seed {seed}");
        assert_eq!(a[0..100], [3; 100]);
    }
}

#[test]
fn a_full_disk_refuses_to_grow_and_removed_files_make_room() {
    let disk = MemoryDisk::new();
    disk.set_capacity(Some(10_000));
    let file = durable(&disk, "a", b"x");
    let full = disk.create("b", 2_000).expect_err("no room");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    let full = file.write_at(8192, &[0; 2_000]).expect_err("no room");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    file.write_at(0, &[1; 8192]).expect("it does not grow");
    disk.remove("a").expect("removed");
    disk.sync_dir().expect("synced");
    disk.create("b", 2_000).expect_err("it is still open");
    drop(file);
    drop(disk.create("b", 10_000).expect("created"));
    assert_eq!((disk.used_bytes(), disk.counters().full), (10_000, 3));
}

#[test]
fn flips_hit_what_is_there_and_are_told() {
    let disk = MemoryDisk::new();
    assert_eq!(disk.flip_any(1), None);
    drop(durable(&disk, "a", &[0xff; 64]));
    for seed in 0..100 {
        let before = disk.content("a").expect("named");
        let flip = disk.flip_any(seed).expect("it holds something");
        let after = disk.content("a").expect("named");
        let changed: Vec<_> = (0..before.len())
            .filter(|&at| before[at] != after[at])
            .collect();
        assert_eq!(changed, [flip.position as usize]);
        assert_eq!(before[changed[0]] ^ after[changed[0]], 1 << flip.bit);
        disk.flip(&flip).expect("back again");
    }
    assert_eq!(disk.counters().bits_flipped, 200);
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let disk = MemoryDisk::seeded(seed);
        let salt = disk.salt();
        drop(written(&disk, "a", &[7; 8192]));
        disk.misdirect_write_after(0);
        drop(written(&disk, "b", &[8; 4000]));
        disk.crash(seed);
        (salt, disk.content("a"), disk.content("b"), disk.counters())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn files_without_name_and_handle_are_forgotten() {
    let disk = MemoryDisk::new();
    for round in 0..10 {
        let name = format!("{round}");
        drop(durable(&disk, &name, b"x"));
        disk.remove(&name).expect("removed");
        disk.sync_dir().expect("synced");
    }
    assert_eq!(disk.used_bytes(), 0);
}
