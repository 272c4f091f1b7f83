// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Limits, and the configuration space that tells them
//! (virtio 1.2, section 5.2.4).

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};

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

/// Limits of a discard or write-zeroes request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most ranges in it.
    pub(super) segments: u32,
    /// Most sectors of each.
    pub(super) sectors: u32,
}

/// 1 GiB at a time: a file with many holes takes a while.
pub(super) const DISCARD: Limits = Limits {
    segments: 16,
    sectors: 1 << 21,
};

/// 64 MiB at a time: there are files for which they must be written.
pub(super) const WRITE_ZEROES: Limits = Limits {
    segments: 1,
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
pub(super) fn space(disk: &Disk) -> [u8; 60] {
    let mut space = [0; 60];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = space.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    put(0, &disk.sectors().to_le_bytes());
    put(8, &MAX_SEGMENT.to_le_bytes());
    put(12, &MAX_SEGMENTS.to_le_bytes());
    put(20, &disk.block_size().to_le_bytes());
    if !disk.is_read_only() {
        put(36, &DISCARD.sectors.to_le_bytes());
        put(40, &DISCARD.segments.to_le_bytes());
        // In sectors.
        put(44, &(disk.granularity() / 512).to_le_bytes());
        put(48, &WRITE_ZEROES.sectors.to_le_bytes());
        put(52, &WRITE_ZEROES.segments.to_le_bytes());
        // write_zeroes_may_unmap
        put(56, &[1]);
    }
    space
}
