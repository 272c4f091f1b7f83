// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What each request does.

use virtio_blk_tmem::testing::range;

use super::*;

#[test]
fn what_was_written_is_read() {
    let mem = memory();
    let disk = disk(1000);
    let mut driver = driver(&mem, &disk);
    let bytes = data(1, 64);
    assert_eq!(driver.write(800, &bytes), OK);
    let read = driver.read(800, 64);
    assert_eq!((read.status, read.used), (OK, 64 * 512 + 1));
    assert!(read.data == bytes);
    // Over its edges into what was never written.
    let around = driver.read(792, 80).data;
    assert_eq!(around[..4096], [0; 4096]);
    assert!(around[4096..4096 + bytes.len()] == bytes);
    assert_eq!(around[4096 + bytes.len()..], [0; 4096]);
    assert_eq!(pages(&disk), 8);
    assert_eq!(counted(&disk, "blocks_written", "kept"), 8);
    assert_eq!(counted(&disk, "blocks_read", "hit"), 16);
    assert_eq!(counted(&disk, "blocks_read", "zeros"), 2);
}

#[test]
fn blocks_that_were_never_written_are_zeros_and_hold_nothing() {
    let mem = memory();
    let disk = disk(1000);
    let held = disk.client().stats().held_bytes;
    let read = driver(&mem, &disk).read(0, 100);
    assert_eq!((read.status, read.data), (OK, vec![0; 51200]));
    assert_eq!(disk.client().stats().held_bytes, held);
}

#[test]
fn a_block_of_zeros_holds_nothing() {
    let mem = memory();
    let disk = disk(1000);
    let mut driver = driver(&mem, &disk);
    driver.write(0, &data(1, 32));
    assert_eq!(pages(&disk), 4);
    assert_eq!(driver.write(8, &vec![0; 8192]), OK);
    assert_eq!(pages(&disk), 2);
    assert_eq!(driver.read(8, 16).data, vec![0; 8192]);
}

#[test]
fn an_overwritten_block_is_held_once() {
    let mem = memory();
    let disk = disk(1000);
    let mut driver = driver(&mem, &disk);
    for round in 0..50 {
        assert_eq!(driver.write(16, &data(round, 64)), OK);
        assert!(driver.read(16, 64).data == data(round, 64));
    }
    assert_eq!(pages(&disk), 8);
}

#[test]
fn a_discard_frees_the_blocks_that_it_has_as_a_whole() {
    let mem = memory();
    let disk = disk(1000);
    let mut driver = driver(&mem, &disk);
    let bytes = data(1, 80);
    driver.write(0, &bytes);
    // The last 4 sectors of block 0 and the first 3 of block 3; blocks 5 and 7 to 8.
    let ranges = [range(4, 23, 0), range(40, 8, 0), range(56, 16, 0)];
    assert_eq!(driver.discard(&ranges), OK);
    assert_eq!(pages(&disk), 10 - 5);
    assert_eq!(counted(&disk, "blocks_discarded", ""), 5);
    for block in 0..10 {
        let read = driver.read(8 * block as u64, 8).data;
        let is_gone = [1, 2, 5, 7, 8].contains(&block);
        let before = &bytes[block * BLOCK..][..BLOCK];
        assert!(
            if is_gone {
                read == [0; BLOCK]
            } else {
                read == before
            },
            "{block}"
        );
    }
    // All of it, many times as long as there are pages.
    assert_eq!(driver.discard(&[range(0, 8000, 0)]), OK);
    assert_eq!(pages(&disk), 0);
}

#[test]
fn zeroes_are_zeros_to_the_sector() {
    for unmap in [0, 1] {
        let mem = memory();
        let disk = disk(1000);
        let mut driver = driver(&mem, &disk);
        let mut bytes = data(1, 80);
        driver.write(0, &bytes);
        // Ends of two blocks with one between; a part of one; one as a whole; nothing.
        let ranges = [(5, 14), (41, 2), (56, 8), (72, 0)];
        for (sector, sectors) in ranges {
            bytes[512 * sector..][..512 * sectors].fill(0);
        }
        let ranges = ranges.map(|(sector, sectors)| range(sector as u64, sectors as u32, unmap));
        assert_eq!(driver.write_zeroes(&ranges), OK);
        assert!(driver.read(0, 80).data == bytes);
        assert_eq!(pages(&disk), 8);
        assert_eq!(counted(&disk, "blocks_zeroed", ""), 2);
    }
}

#[test]
fn a_flush_is_answered_and_does_nothing() {
    let mem = memory();
    let disk = disk(10);
    let mut driver = driver(&mem, &disk);
    driver.write(0, &data(1, 8));
    assert_eq!(driver.flush(), OK);
    assert_eq!(counted(&disk, "requests", "flush"), 1);
    assert!(driver.read(0, 8).data == data(1, 8));
}

#[test]
fn the_id_is_the_serial_number() {
    let mem = memory();
    let disk = disk(10);
    let mut driver = driver(&mem, &disk);
    let id = driver.id();
    assert_eq!((id.status, id.used), (OK, 21));
    assert_eq!(id.data, [&b"vm"[..], &[0; 18]].concat());
}

#[test]
fn two_queues_serve_one_disk() {
    let mem = memory();
    let disk = disk(1000);
    let mut one = Driver::new(&mem, &disk, 0, 256);
    let mut other = Driver::new(&mem, &disk, TestDriver::AREA, 128);
    one.write(0, &data(1, 8));
    assert!(other.read(0, 8).data == data(1, 8));
    other.write(0, &data(2, 8));
    assert!(one.read(0, 8).data == data(2, 8));
}

/// Two machines of one store.
#[test]
fn nothing_of_another_disk_is_readable() {
    let mem = memory();
    let store = store();
    let disk = |name: &str| {
        let client = store.add_client(ClientConfig::new(name, 4 * MIB)).unwrap();
        Arc::new(Disk::new(client, DiskConfig::new(name, MIB)).unwrap())
    };
    let (one, other) = (disk("one"), disk("other"));
    assert_eq!(driver(&mem, &one).write(0, &data(1, 256)), OK);
    assert_eq!(driver(&mem, &other).read(0, 256).data, vec![0; 512 * 256]);
    // Not even to who comes after it.
    drop(one);
    let next = self::disk(64);
    assert_eq!(driver(&mem, &next).read(0, 256).data, vec![0; 512 * 256]);
}

#[test]
fn latencies_are_told_by_what_came_of_it() {
    let mem = memory();
    let disk = disk(10);
    let mut driver = driver(&mem, &disk);
    driver.write(0, &data(1, 8));
    driver.read(1000, 1);
    for _ in 0..2 {
        let served = driver.served().unwrap();
        disk.metrics()
            .served(served, std::time::Duration::from_micros(5));
        driver.write(0, &data(1, 8));
    }
    let mut told: Vec<_> = disk.metrics().latencies().collect();
    told.sort_by_key(|latency| latency.labels);
    let labels: Vec<_> = told
        .iter()
        .map(|latency| latency.labels.map(|(_, is)| is))
        .collect();
    let expected = [
        ["read", "io_error", "persistent"],
        ["write", "ok", "persistent"],
    ];
    assert_eq!(labels, expected);
}
