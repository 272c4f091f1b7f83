// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page memory: one file mapping, cut into segments, in which each client has a
//! log.
//!
//! The file is a sparse memfd. A *segment* is [`SEGMENT`] bytes of it; while in
//! use it belongs to one client, so that pages of two clients never share a page
//! of the host, and a client can be charged for exactly the memory that it keeps
//! the host from using. Pages are appended as *entries* of any length, each with
//! a header that names its owner. What is freed leaves a hole, which another entry
//! may be put in when memory is nearly full, until the cleaner
//! ([`crate::reclaim`]) has moved the segment's live entries to another one, or
//! the last of them is freed: then the segment is punched out of the file. (After
//! Rumble, Kejriwal and Ousterhout, "Log-structured Memory for DRAM-based
//! Storage", FAST 2014.)
//!
//! Layers, each knowing only those before it: [`owner`] (what an entry says), [`format`] (what is in the
//! file), [`entry`] (names of places),
//! [`mapping`] (bytes; all `unsafe` of it), [`segments`] (which segments are used),
//! [`log`] (the segments of one client), [`cells`] (entries at rest in an index), [`pack`] (segments elsewhere). Segments of pages
//! that were not used for long may be in a [`spill`] area instead, with a [`stub`] in memory.

mod cells;
mod entry;
mod format;
#[cfg(test)]
mod journal;
mod log;
mod mapping;
mod owner;
mod pack;
mod segments;
mod spill;
mod stub;

pub(crate) use cells::{Cells, Content};
pub(crate) use entry::{Entry, EntryRef, Location, Pin, Victim};
pub(crate) use format::Damaged;
#[cfg(test)]
pub(crate) use format::{Place, SegmentHeader, State, Word, footprint};
#[cfg(test)]
pub(crate) use journal::Note;
pub(crate) use log::{LeftPage, Log, Moved, Part, Scanned, Scanner, Short, Spilled, Temperature};
pub use mapping::PageMemory;
pub(crate) use owner::{Codec, Owner, Payload, PoolTag};
pub(crate) use pack::{PackedAt, Packer, Unpacked};
pub(crate) use segments::{Arena, Left};
pub(crate) use spill::Window;
pub(crate) use stub::Stub;

use crate::types::PAGE_SIZE;

/// Bytes in a segment. Larger ones waste less at their ends; smaller ones differ
/// more in how full they are, which makes cleaning cheaper.
pub(crate) const SEGMENT: usize = 128 << 10;

/// Bytes by which a segment is backed with memory and charged to its client.
pub(crate) const PIECE: usize = 16 << 10;

/// Bytes of the largest entry: a page as it is, and its header.
pub(crate) const LARGEST: usize = format::HEADER + PAGE_SIZE;

/// Most bytes that a compressed page may have; a larger one saves too little
/// and is kept as it is.
pub(crate) const MAX_COMPRESSED: usize = 3584;

/// Most segments of a store: an entry names its segment with 24 bits.
pub(crate) const MAX_SEGMENTS: u32 = 1 << 24;

#[cfg(test)]
mod tests;
