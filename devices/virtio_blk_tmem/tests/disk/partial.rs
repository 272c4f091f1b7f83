// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Writes of sectors that are no whole block: of several queues at the same time.

use std::thread;

use super::*;

#[test]
fn sectors_are_written_one_by_one() {
    let mem = memory();
    let disk = disk(100);
    let mut driver = driver(&mem, &disk);
    let mut expected = data(1, 24);
    driver.write(0, &expected);
    for (sector, sectors) in [(3, 1), (7, 2), (6, 12), (0, 8), (20, 4)] {
        let bytes = data(sector as u64 + 100, sectors);
        assert_eq!(driver.write(sector as u64, &bytes), OK);
        expected[512 * sector..][..bytes.len()].copy_from_slice(&bytes);
        assert!(driver.read(0, 24).data == expected);
    }
    // One each, for what is no whole block: of (6, 12), two.
    assert_eq!(counted(&disk, "partial_writes", ""), 1 + 2 + 2 + 1);
}

#[test]
fn a_part_of_a_block_that_becomes_zeros_frees_it() {
    let mem = memory();
    let disk = disk(100);
    let mut driver = driver(&mem, &disk);
    driver.write(3, &data(1, 1));
    assert_eq!(pages(&disk), 1);
    driver.write(3, &[0; 512]);
    assert_eq!(pages(&disk), 0);
}

/// Each queue has a sector of its own in each block, writes it and reads it back.
#[test]
fn sectors_of_a_block_are_written_by_several_queues_at_once() {
    const QUEUES: u64 = 4;
    const BLOCKS: u64 = 4;
    let disk = disk(BLOCKS);
    thread::scope(|scope| {
        for queue in 0..QUEUES {
            let disk = &disk;
            scope.spawn(move || {
                let mem = memory();
                let mut driver = driver(&mem, disk);
                for round in 0..400 {
                    for block in 0..BLOCKS {
                        let bytes = data(round * 16 + queue, 1);
                        assert_eq!(driver.write(8 * block + queue, &bytes), OK);
                        assert!(driver.read(8 * block + queue, 1).data == bytes);
                    }
                }
            });
        }
    });
    assert_eq!(counted(&disk, "partial_writes", ""), QUEUES * BLOCKS * 400);
}

/// One queue writes a sector, another the whole block: of the whole block, what was answered
/// stays, but for that sector.
#[test]
fn a_whole_block_is_not_lost_to_a_part_of_it() {
    let disk = disk(1);
    thread::scope(|scope| {
        let part = scope.spawn(|| {
            let mem = memory();
            let mut driver = driver(&mem, &disk);
            for round in 0..3000_u64 {
                assert_eq!(driver.write(0, &data(round, 1)), OK);
            }
        });
        let mem = memory();
        let mut driver = driver(&mem, &disk);
        let mut round = 0;
        while !part.is_finished() {
            round += 1;
            let bytes = data(round, 8);
            assert_eq!(driver.write(0, &bytes), OK);
            assert!(driver.read(1, 7).data == bytes[512..], "round {round}");
        }
    });
}
