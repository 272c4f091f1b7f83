// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A virtual machine's device that is a plain disk.

/// A plain virtio-blk disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its bytes.
    pub size: u64,
    /// Whether a swap header is there already.
    pub swapspace: bool,
    /// The label in that.
    pub label: String,
}

impl Disk {
    /// What the setting `personality` says of a disk.
    pub const PERSONALITY: &str = "blk";

    /// What it says of transcendent memory.
    pub const NOT_ONE: &str = "tmem";

    /// What becomes of writes that the quota has no room for. There is no other choice yet.
    pub const ON_FULL: &str = "error";
}
