// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver: what is marked so is the guest's file as it stands, the rest stands in for the file
//! of the same name.

pub(crate) mod area;
pub(crate) mod engine;
pub(crate) mod filter;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/bits.rs"]
pub(crate) mod bits;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/blocks.rs"]
pub(crate) mod blocks;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/fingerprint.rs"]
pub(crate) mod fingerprint;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/frames.rs"]
pub(crate) mod frames;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/handles.rs"]
pub(crate) mod handles;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/lanes.rs"]
pub(crate) mod lanes;

#[rustfmt::skip]
#[allow(unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/parts.rs"]
pub(crate) mod parts;

#[cfg(test)]
#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/round_trip.rs"]
pub(crate) mod round_trip;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/puts.rs"]
pub(crate) mod puts;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/runs.rs"]
pub(crate) mod runs;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/sparse.rs"]
pub(crate) mod sparse;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "the guest's file as it stands")]
#[path = "../../guest/driver/ticket.rs"]
pub(crate) mod ticket;

pub(crate) use crate::tuning;
