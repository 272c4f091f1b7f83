// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver's files with bounds so narrow that they are always reached.

#![allow(clippy::arc_with_non_send_sync, reason = "there is one thread")]

/// Where bios begin.
const PLACES: &[u64] = &[0, 1, 2, 3, 4, 5, 6, 7];
const PAGES: u64 = 13;
/// Pages in a bio of the guest's.
const MOST_PAGES_OF_BIO: u32 = 6;
/// Pages in a request.
const MOST_PAGES: u32 = 3;
/// Pages of which it is remembered that they were read.
const MOST_SEEN: u64 = 5;
/// Bytes for those that are present.
const MOST_PRESENT: u64 = 4096;
/// Frames of memory: fewer than pages are read.
const FRAMES: u64 = 5;

#[cfg(test)]
mod bits;
#[cfg(test)]
mod driver;
#[cfg(test)]
mod fingerprints;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod moved_read;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod puts;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod slow_read;
#[cfg(test)]
mod sparse;
#[cfg(test)]
mod sys;
#[cfg(test)]
mod world;

#[cfg(test)]
#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "the guest's file as it stands")]
#[path = "../../guest/wire.rs"]
mod wire;

/// As the driver's.
#[cfg(test)]
mod tuning {
    pub(crate) const BATCH: usize = 2;
    pub(crate) const BATCH_MS: u32 = 2;
    pub(crate) const BUCKETS: usize = 3;
    pub(crate) const BUCKET_PAGES: u32 = 2;
    pub(crate) const COPIES: usize = 8;
    pub(crate) const EXTENTS: usize = 2;
    pub(crate) const EXTENT_PAGES: u64 = 3;
    pub(crate) const FORGET_PAGES: u64 = 7;
    pub(crate) const FLUSH_PAGES: usize = EXTENTS;
    pub(crate) const GARBAGE: usize = 2;
    pub(crate) const HOME_PARTS: usize = 1;
    pub(crate) const SEEN_SPREAD: u64 = 2;
    pub(crate) const WORTH_CUTTING: u32 = 2;
}
