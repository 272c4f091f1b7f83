// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver's files with the driver's bounds.

#![allow(clippy::arc_with_non_send_sync, reason = "there is one thread")]

/// Where bios begin: around the end of a bucket, and where the same buckets come again.
const PLACES: &[u64] = &[29, 30, 31, 32, 33, 34, 131_100, 131_103, 131_104];
const PAGES: u64 = 131_120;
/// Pages in a bio of the guest's.
const MOST_PAGES_OF_BIO: u32 = 6;
/// Pages in a request.
const MOST_PAGES: u32 = 4;
/// Pages of which it is remembered that they were read.
const MOST_SEEN: u64 = 64;
/// Bytes for those that are present: a node and a leaf, of two that there are.
const MOST_PRESENT: u64 = 700;
/// Frames of memory.
const FRAMES: u64 = 64;

#[cfg(test)]
mod driver;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod slow_read;
#[cfg(test)]
mod sys;
#[cfg(test)]
mod world;

#[cfg(test)]
#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/tuning.rs"]
mod tuning;

#[cfg(test)]
#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "the guest's file as it stands")]
#[path = "../../guest/wire.rs"]
mod wire;
