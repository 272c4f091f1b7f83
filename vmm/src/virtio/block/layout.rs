// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Limits, and the configuration space that tells them
//! (virtio 1.2, section 5.2.4).

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_blk_tmem::wire::{Limits, SPACE, Space};

use super::Disk;
use crate::virtio::COMMON_FEATURES;

/// Descriptors of the queue.
pub(super) const QUEUE_SIZE: u16 = 256;

/// Most buffers of data in a request: all but the header and the status.
pub(super) const MAX_SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;

/// Most bytes in one of them. More than drivers use at a time; with
/// [`MAX_SEGMENTS`] it limits how long a request can take.
pub(super) const MAX_SEGMENT: u32 = 1 << 20;

/// Most bytes of data in a request.
pub(super) const MAX_DATA: u64 = MAX_SEGMENT as u64 * MAX_SEGMENTS as u64;

/// 1 GiB at a time: a file with many holes takes a while.
pub(super) const DISCARD: Limits = Limits {
    ranges: 16,
    sectors: 1 << 21,
};

/// 64 MiB at a time: there are files for which they must be written.
pub(super) const WRITE_ZEROES: Limits = Limits {
    ranges: 1,
    sectors: 1 << 17,
};

/// The features of `disk`.
pub(super) fn features(disk: &Disk) -> u64 {
    let mut features = COMMON_FEATURES
        | 1 << VIRTIO_BLK_F_SIZE_MAX
        | 1 << VIRTIO_BLK_F_SEG_MAX
        | 1 << VIRTIO_BLK_F_BLK_SIZE
        | 1 << VIRTIO_BLK_F_FLUSH;
    if disk.is_read_only() {
        features |= 1 << VIRTIO_BLK_F_RO;
    } else {
        features |= 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
    }
    features
}

/// The configuration space of `disk`.
pub(super) fn space(disk: &Disk) -> [u8; SPACE] {
    let mut space = Space {
        capacity: disk.sectors(),
        size_max: MAX_SEGMENT,
        seg_max: MAX_SEGMENTS,
        blk_size: disk.block_size(),
        ..Space::default()
    };
    if !disk.is_read_only() {
        space.discard = DISCARD;
        // In sectors.
        space.discard_sector_alignment = disk.granularity() / 512;
        space.write_zeroes = WRITE_ZEROES;
    }
    space.encode()
}
