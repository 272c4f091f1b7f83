// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Features and the configuration space, by the offsets of `struct virtio_blk_config`.

use super::*;

fn field(disk: &Disk, offset: u32, size: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..size as usize].copy_from_slice(&disk.read_config(offset, size));
    u64::from_le_bytes(bytes)
}

#[test]
fn the_space_tells_what_the_disk_takes() {
    let disk = disk(1000);
    assert_eq!(field(&disk, 0, 8), 8000);
    // A buffer may have a page at least; header, status and so many buffers fit into a queue
    // of 128.
    assert!(field(&disk, 8, 4) >= 4096);
    assert_eq!(field(&disk, 12, 4), 126);
    assert_eq!(field(&disk, 20, 4), 4096);
    assert_eq!(field(&disk, 34, 2), 2);
    assert_eq!(field(&disk, 36, 4), u64::from(u32::MAX - 7));
    assert_eq!(field(&disk, 40, 4), 256);
    assert_eq!(field(&disk, 44, 4), 8);
    assert_eq!(field(&disk, 48, 4), u64::from(u32::MAX - 7));
    assert_eq!(field(&disk, 52, 4), 256);
    assert_eq!(field(&disk, 56, 1), 1);
    // Beyond its end there are zeros.
    assert_eq!(disk.read_config(57, 40), [0; 40]);
    assert_eq!(disk.read_config(u32::MAX, 4), [0; 4]);
    assert_eq!(disk.read_config(56, 2), [1, 0]);
}

#[test]
fn what_is_offered() {
    let features = disk(10).features();
    // SIZE_MAX, SEG_MAX, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES,
    // IN_ORDER.
    let expected = [1, 2, 6, 9, 10, 11, 12, 13, 14, 35];
    let offered: Vec<u32> = (0..64).filter(|bit| features >> bit & 1 == 1).collect();
    assert_eq!(offered, expected);
    assert_eq!(disk(10).queue_sizes(), [1024, 1024]);
}

#[test]
fn the_write_cache_is_off_and_a_driver_may_have_it_on() {
    let disk = disk(10);
    let writeback = || disk.read_config(32, 1)[0];
    assert_eq!(writeback(), 0);
    disk.write_config(32, &[1]);
    assert_eq!(writeback(), 1);
    // What is no such thing is not taken.
    for (offset, data) in [
        (32, &[2][..]),
        (32, &[0, 0]),
        (32, &[]),
        (0, &[0]),
        (u32::MAX, &[0]),
    ] {
        disk.write_config(offset, data);
        assert_eq!(writeback(), 1);
    }
    // Another driver.
    disk.negotiated(0);
    assert_eq!(writeback(), 0);
}

#[test]
fn a_disk_has_whole_blocks_and_at_least_one() {
    let store = store();
    let client = || store.add_client(ClientConfig::new("vm", MIB)).unwrap();
    assert!(Disk::new(client(), DiskConfig::new("vm", 4095)).is_err());
    let disk = Disk::new(client(), DiskConfig::new("vm", 8191)).unwrap();
    assert_eq!(field(&disk, 0, 8), 8);
}
