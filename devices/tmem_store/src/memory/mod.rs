// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page memory: one file mapping, cut into spans, cut into slots.
//!
//! The file is a sparse memfd. A *span* is [`SPAN_SIZE`] bytes of it; while in
//! use it belongs to one client and one size class, so that pages of two
//! clients never share a page of the host and a client can be charged for
//! exactly the memory that it keeps the host from using. A span whose last
//! slot is freed is punched out of the file and may then serve any client and
//! any class.
//!
//! Layers, each knowing only those before it: [`mapping`] (bytes; the only
//! `unsafe`), [`class`] (sizes), [`span`] (which slots of a span are used),
//! [`arena`] (which spans are used), [`heap`] (the spans of one client),
//! [`cells`] (packed slots at rest in an index).
//!
//! The file is meant to be handed to a restarted daemon later. For that the
//! owner of each slot has to be written into the file too; offsets are stable
//! and no pointer is ever stored in page memory.

mod arena;
mod cells;
mod class;
mod heap;
mod mapping;
mod span;

pub(crate) use arena::Arena;
pub(crate) use cells::{Cells, Content, View};
pub(crate) use class::{Class, MAX_COMPRESSED};
pub(crate) use heap::{Freed, Heap};
pub(crate) use mapping::Slot;

use crate::types::PAGE_SIZE;

/// Bytes in a span: the unit in which page memory is taken from and given
/// back to the system, and charged to clients. Larger spans waste more when
/// partially filled, smaller ones make more system calls.
pub(crate) const SPAN_SIZE: usize = 32 << 10;

/// Bytes that a span costs, its bookkeeping included.
pub(crate) const SPAN_COST: u64 = (SPAN_SIZE + size_of::<span::SpanLock>()) as u64;

/// Pages that wait to be compressed in a span.
pub(crate) const WAITING_PER_SPAN: u64 = (SPAN_SIZE / PAGE_SIZE) as u64;

/// Most spans of a store: a slot names its span with 28 bits.
pub(crate) const MAX_SPANS: u32 = 1 << 28;

#[cfg(test)]
mod tests;
