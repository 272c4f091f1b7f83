// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The spans of a store.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::mapping::{Mapping, Slot, SlotRef};
use super::span::SpanTable;
use super::{MAX_SPANS, SPAN_SIZE};
use crate::types::Error;

/// Spans that hold no memory.
#[derive(Debug, Default)]
struct FreeSpans {
    /// Spans that were used and punched out.
    punched: Vec<u32>,
    /// Spans from here on were never used.
    fresh: u32,
}

/// All page memory of a store.
#[derive(Debug)]
pub(crate) struct Arena {
    mapping: Mapping,
    pub(super) spans: SpanTable,
    free: Mutex<FreeSpans>,
    total: u32,
}

impl Arena {
    /// Reserves address space for `limit` bytes of page memory.
    ///
    /// # Errors
    /// When the limit is too large or the system has no memfd or address space.
    pub(crate) fn new(limit: u64) -> Result<Self, Error> {
        let most = u64::from(MAX_SPANS) * SPAN_SIZE as u64;
        let too_large = || Error::LimitTooLarge { limit, most };
        let total = u32::try_from(limit.div_ceil(SPAN_SIZE as u64)).map_err(|_| too_large())?;
        let bytes = (total as usize)
            .checked_mul(SPAN_SIZE)
            .ok_or_else(too_large)?;
        if total > MAX_SPANS {
            return Err(too_large());
        }
        let mapping =
            Mapping::new(bytes).map_err(|(action, source)| Error::PageMemory { action, source })?;
        Ok(Self {
            mapping,
            spans: SpanTable::new(total),
            free: Mutex::default(),
            total,
        })
    }

    fn free(&self) -> MutexGuard<'_, FreeSpans> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A span backed by memory, or `None` if the system has none to give.
    pub(super) fn acquire(&self) -> Option<u32> {
        let mut free = self.free();
        let span = match free.punched.pop() {
            Some(span) => span,
            None if free.fresh < self.total => {
                free.fresh += 1;
                free.fresh - 1
            }
            None => return None,
        };
        if self.mapping.back(span).is_err() {
            free.punched.push(span);
            return None;
        }
        Some(span)
    }

    /// Gives a span without used slots back to the system.
    pub(super) fn release(&self, span: u32) {
        // If the hole cannot be punched the memory stays, to be reused.
        let _ = self.mapping.punch(span);
        self.free().punched.push(span);
    }

    /// Bytes of memory that the system reports behind the spans.
    pub(crate) fn backed_bytes(&self) -> io::Result<u64> {
        self.mapping.backed_bytes()
    }

    /// The bytes of a slot at rest.
    pub(crate) fn bytes<'a>(&'a self, slot: &SlotRef<'a>) -> &'a [u8] {
        self.mapping.bytes(slot)
    }

    /// Copies `bytes` into a slot that was allocated for as many.
    pub(crate) fn fill(&self, slot: &mut Slot, bytes: &[u8]) {
        let to = self.mapping.bytes_mut(slot);
        if let Some(bytes) = bytes.get(..to.len()) {
            to.copy_from_slice(bytes);
        }
    }
}
