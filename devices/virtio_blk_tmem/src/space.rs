// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Features, and the configuration space.

use virtio_bindings::bindings::virtio_config::VIRTIO_F_IN_ORDER;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_TOPOLOGY,
    VIRTIO_BLK_F_WRITE_ZEROES,
};

use crate::limits::{
    BLOCK, BLOCK_SECTORS, BLOCK_SIZE, MAX_RANGE_SECTORS, MAX_RANGES, MAX_SEGMENT, MAX_SEGMENTS,
    SECTOR,
};
use crate::wire::{Limits, Space};

/// The features of the device, and that it answers in order.
pub const FEATURES: u64 = 1 << VIRTIO_BLK_F_SIZE_MAX
    | 1 << VIRTIO_BLK_F_SEG_MAX
    | 1 << VIRTIO_BLK_F_BLK_SIZE
    | 1 << VIRTIO_BLK_F_TOPOLOGY
    | 1 << VIRTIO_BLK_F_FLUSH
    | 1 << VIRTIO_BLK_F_CONFIG_WCE
    | 1 << VIRTIO_BLK_F_MQ
    | 1 << VIRTIO_BLK_F_DISCARD
    | 1 << VIRTIO_BLK_F_WRITE_ZEROES
    | 1 << VIRTIO_F_IN_ORDER;

/// The space of a disk of so many blocks.
pub fn space(blocks: u64, queues: u16, writeback: bool) -> Space {
    let limits = Limits {
        ranges: MAX_RANGES,
        sectors: MAX_RANGE_SECTORS,
    };
    Space {
        capacity: blocks * (BLOCK / SECTOR),
        size_max: MAX_SEGMENT,
        seg_max: MAX_SEGMENTS,
        blk_size: BLOCK_SIZE,
        min_io_size: 1,
        writeback,
        num_queues: queues,
        discard: limits,
        discard_sector_alignment: BLOCK_SECTORS,
        write_zeroes: limits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        for writeback in [false, true] {
            let space = Space {
                // No two fields are equal.
                min_io_size: 3,
                write_zeroes: Limits {
                    ranges: 5,
                    sectors: 7,
                },
                ..space(1 << 40, 2, writeback)
            };
            assert_eq!(Space::decode(&space.encode()), space);
        }
    }
}
