// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The quota is reached, the machine is frozen: a block is old or new, and never gone.

use tmem_store::Compression;
use virtio_blk_tmem::testing::range;

use super::*;

/// A disk that is full of `data(block)`, each of them; and how many.
fn full<'m>(
    mem: &'m Memory,
    disk: &Arc<Disk>,
    data: impl Fn(u64) -> Vec<u8>,
) -> (TestDriver<'m>, u64) {
    let mut driver = driver(mem, disk);
    let count = (0..).find(|block| driver.write(8 * block, &data(*block)) != OK);
    (driver, count.unwrap())
}

#[test]
fn a_refused_write_is_an_error_and_loses_nothing() {
    let mem = memory();
    let disk = with_quota(10_000, 2 * MIB);
    let (mut driver, count) = full(&mem, &disk, |block| data(block, 8));
    assert!(count > 300, "{count}");
    assert!(counted(&disk, "blocks_written", "quota") > 0);
    // What was refused is not there; all else is.
    assert_eq!(driver.read(8 * count, 8).data, [0; BLOCK]);
    for block in 0..count {
        assert!(driver.read(8 * block, 8).data == data(block, 8), "{block}");
    }
    // Zeros need nothing, and room comes back.
    assert_eq!(driver.write(8 * 9000, &[0; BLOCK]), OK);
    assert_eq!(driver.discard(&[range(0, 8 * 64, 0)]), OK);
    assert_eq!(driver.write(8 * 9000, &data(1, 8)), OK);
}

#[test]
fn a_full_disk_is_overwritten_as_a_whole() {
    let mem = memory();
    let disk = with_quota(10_000, 2 * MIB);
    let (mut driver, count) = full(&mem, &disk, |block| data(block, 8));
    for round in 1..4 {
        for block in 0..count {
            assert_eq!(
                driver.write(8 * block, &data(block + 1000 * round, 8)),
                OK,
                "{block}"
            );
        }
    }
    for block in 0..count {
        assert!(
            driver.read(8 * block, 8).data == data(block + 3000, 8),
            "{block}"
        );
    }
}

/// Blocks that compress well are overwritten with others that do not.
#[test]
fn a_refused_overwrite_leaves_the_older_block() {
    for codec in [Compression::Auto, Compression::None] {
        let mem = memory();
        let disk = with_quota(100_000, MIB);
        disk.client().set_compression(codec);
        let small = |block: u64| [&block.to_le_bytes()[..]; 512].concat();
        let (mut driver, count) = full(&mem, &disk, small);
        let mut refused = 0;
        for block in 0..count {
            let status = driver.write(8 * block, &data(block, 8));
            let read = driver.read(8 * block, 8);
            let expected = match status {
                OK => data(block, 8),
                _ => small(block),
            };
            refused += u64::from(status != OK);
            assert!(
                (read.status, &read.data) == (OK, &expected),
                "{block}: {status}"
            );
        }
        assert!(refused > count / 2, "{refused} of {count}");
    }
}

/// A request is done up to the block that is refused, and none after it is touched.
#[test]
fn a_write_ends_at_the_block_that_is_refused() {
    let mem = memory();
    let disk = with_quota(10_000, 2 * MIB);
    let (mut driver, count) = full(&mem, &disk, |block| data(block, 8));
    // Old blocks, then one that has no room, then old ones.
    let first = count - 4;
    let bytes = data(77, 8 * 8);
    assert_eq!(driver.write(8 * first, &bytes), IOERR);
    let read = driver.read(8 * first, 8 * 8).data;
    let (before, after) = read.split_at(4 * BLOCK);
    assert!(before == &bytes[..4 * BLOCK]);
    assert!(after == [0; 4 * BLOCK]);
}

#[test]
fn a_frozen_disk_is_overwritten_and_takes_nothing_new() {
    let mem = memory();
    let disk = disk(1000);
    let mut driver = driver(&mem, &disk);
    driver.write(0, &data(1, 8));
    disk.set_frozen(true);
    assert_eq!(driver.write(0, &data(2, 8)), OK);
    assert_eq!(driver.write(8, &data(2, 8)), IOERR);
    assert_eq!(counted(&disk, "blocks_written", "frozen"), 1);
    assert!(driver.read(0, 8).data == data(2, 8));
    disk.set_frozen(false);
    assert_eq!(driver.write(8, &data(2, 8)), OK);
}

#[test]
fn a_lowered_quota_keeps_what_is_there() {
    let mem = memory();
    let disk = disk(1000);
    let mut driver = driver(&mem, &disk);
    let bytes = data(1, 8 * 300);
    assert_eq!(driver.write(0, &bytes), OK);
    disk.set_quota(MIB / 2);
    assert_eq!(driver.write(8 * 500, &data(1, 8)), IOERR);
    assert!(driver.read(0, 8 * 300).data == bytes);
    disk.set_quota(16 * MIB);
    assert_eq!(driver.write(8 * 500, &data(1, 8)), OK);
}
