// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-blk on raw files and block devices (virtio 1.2, section 5.2).
//!
//! [`Disk`] is the file with its size and its lock, [`Block`] the device. A
//! request is run by `execute`; data goes straight between the file and the guest's
//! memory. What requests look like, virtio-blk-tmem knows as well
//! ([`virtio_blk_tmem::wire`]).

mod device;
mod discard;
mod disk;
mod execute;
mod format;
mod layout;
mod open;
mod options;
mod partition;
mod stats;

#[cfg(test)]
mod tests;

pub use device::Block;
pub use disk::Disk;
pub use open::OpenError;
pub use options::DiskOptions;
pub use partition::partitioned;
pub use stats::BlockStats;

/// The unit of addresses and sizes, in bytes, whatever the disk's blocks are.
const SECTOR: u64 = 512;
