// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which slots of a span are used, and lists of spans with free slots.
//!
//! A span's state is changed only by who holds the lock of the (client,
//! class) it belongs to; the lock of its own makes that known to the compiler
//! and is never contended.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::class::Class;
use super::mapping::Slot;

/// Ends a list.
const NIL: u32 = u32::MAX;

/// The state of one span.
#[derive(Debug)]
pub(super) struct Span {
    /// One bit per used slot.
    used: [u64; 4],
    /// Neighbours in the list of spans with free slots.
    prev: u32,
    next: u32,
    count: u16,
}

/// A span's state behind its lock.
pub(super) type SpanLock = Mutex<Span>;

impl Span {
    const EMPTY: Self = Self {
        used: [0; 4],
        prev: NIL,
        next: NIL,
        count: 0,
    };

    /// Turns a free bit below `slots` to used.
    fn take(&mut self, slots: usize) -> Option<u8> {
        for (nth, word) in self.used.iter_mut().enumerate() {
            let bit = (!*word).trailing_zeros();
            let slot = nth * 64 + bit as usize;
            if bit < 64 && slot < slots {
                *word |= 1 << bit;
                self.count += 1;
                return u8::try_from(slot).ok();
            }
        }
        None
    }

    /// Turns a used bit back to free; whether it was used.
    fn give(&mut self, nth: u8) -> bool {
        let bit = 1 << (nth % 64);
        match self.used.get_mut(usize::from(nth / 64)) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                self.count -= 1;
                true
            }
            _ => false,
        }
    }
}

/// The state of every span of an arena, made in chunks as they are used.
#[derive(Debug)]
pub(super) struct SpanTable {
    chunks: Box<[OnceLock<Box<[SpanLock]>>]>,
}

impl SpanTable {
    const CHUNK: usize = 64;

    pub(super) fn new(spans: u32) -> Self {
        let chunks = (spans as usize).div_ceil(Self::CHUNK);
        Self {
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
        }
    }

    fn lock(&self, span: u32) -> Option<MutexGuard<'_, Span>> {
        let chunk = self.chunks.get(span as usize / Self::CHUNK)?;
        let chunk =
            chunk.get_or_init(|| (0..Self::CHUNK).map(|_| Mutex::new(Span::EMPTY)).collect());
        let span = chunk.get(span as usize % Self::CHUNK)?;
        Some(span.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A list of the spans of one class that have free slots.
#[derive(Debug)]
pub(super) struct Partial {
    first: u32,
}

impl Partial {
    pub(super) const EMPTY: Self = Self { first: NIL };

    fn push(&mut self, table: &SpanTable, number: u32) {
        let next = std::mem::replace(&mut self.first, number);
        if let Some(mut span) = table.lock(number) {
            span.prev = NIL;
            span.next = next;
        }
        if let Some(mut span) = table.lock(next) {
            span.prev = number;
        }
    }

    fn unlink(&mut self, table: &SpanTable, prev: u32, next: u32) {
        match table.lock(prev) {
            Some(mut span) => span.next = next,
            None => self.first = next,
        }
        if let Some(mut span) = table.lock(next) {
            span.prev = prev;
        }
    }

    /// Adds a span without used slots.
    pub(super) fn add(&mut self, table: &SpanTable, number: u32) {
        if let Some(mut span) = table.lock(number) {
            *span = Span::EMPTY;
        }
        self.push(table, number);
    }

    /// A free slot of these spans, for `len` bytes.
    pub(super) fn take(&mut self, table: &SpanTable, class: Class, len: u16) -> Option<Slot> {
        let number = self.first;
        let mut span = table.lock(number)?;
        let nth = span.take(class.slots())?;
        let full = usize::from(span.count) == class.slots();
        let next = span.next;
        drop(span);
        if full {
            self.unlink(table, NIL, next);
        }
        Some(Slot::new(number, nth, class, len))
    }

    /// Frees a slot. If it was the last one used of its span, the span leaves
    /// the list and its number is returned.
    pub(super) fn give(&mut self, table: &SpanTable, slot: Slot) -> Option<u32> {
        let number = slot.span();
        let mut span = table.lock(number)?;
        let was_full = usize::from(span.count) == slot.class().slots();
        if !span.give(slot.nth()) {
            return None;
        }
        let empty = span.count == 0;
        let (prev, next) = (span.prev, span.next);
        drop(span);
        match (was_full, empty) {
            (true, false) => self.push(table, number),
            (false, true) => self.unlink(table, prev, next),
            _ => {}
        }
        empty.then_some(number)
    }
}
