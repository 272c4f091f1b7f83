// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The slots of one client, in spans that it has for itself.
//!
//! One lock per class; at most one of them is held at a time, and the locks of
//! spans below it. One empty span is kept in reserve while others are in use,
//! so that a put and a flush in turn do not go to the system each time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::arena::Arena;
use super::class::Class;
use super::mapping::Slot;
use super::span::Partial;

/// What the heap did with a freed slot's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freed {
    /// Spans given back to the system; their cost is to be credited.
    pub(crate) spans: u64,
}

/// Spans of a client that are not cut into slots.
#[derive(Debug, Default)]
struct Reserve {
    spare: Option<u32>,
    /// Spans cut into slots.
    in_use: u64,
}

/// The page memory of one client.
#[derive(Debug)]
pub(crate) struct Heap {
    classes: [Mutex<Partial>; Class::COUNT],
    reserve: Mutex<Reserve>,
    /// Bytes of free slots in spans that are cut.
    free_bytes: AtomicU64,
}

impl Heap {
    pub(crate) fn new() -> Self {
        Self {
            classes: [const { Mutex::new(Partial::EMPTY) }; Class::COUNT],
            reserve: Mutex::default(),
            free_bytes: AtomicU64::new(0),
        }
    }

    fn class(&self, class: Class) -> Option<MutexGuard<'_, Partial>> {
        let partial = self.classes.get(usize::from(class.number()))?;
        Some(partial.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn reserve(&self) -> MutexGuard<'_, Reserve> {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of free slots: memory that is charged but holds nothing.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Relaxed)
    }

    fn take(&self, arena: &Arena, class: Class, len: u16) -> Option<Slot> {
        let slot = self.class(class)?.take(&arena.spans, class, len)?;
        self.free_bytes.fetch_sub(class.slot_size() as u64, Relaxed);
        Some(slot)
    }

    /// A free slot of the class that fits `len` best.
    pub(crate) fn allocate(&self, arena: &Arena, class: Class, len: u16) -> Option<Slot> {
        self.take(arena, class, len).or_else(|| {
            let span = self.reserve().spare.take()?;
            self.cut(arena, span, class, len)
        })
    }

    /// A free slot of a larger class: wasteful, but better than none.
    pub(crate) fn allocate_larger(&self, arena: &Arena, class: Class, len: u16) -> Option<Slot> {
        class
            .and_larger()
            .skip(1)
            .find_map(|class| self.take(arena, class, len))
    }

    /// A slot of a span that is fresh from the system, which the caller has
    /// charged for. `None` if the system has no memory.
    pub(crate) fn allocate_fresh(&self, arena: &Arena, class: Class, len: u16) -> Option<Slot> {
        let span = arena.acquire()?;
        self.cut(arena, span, class, len)
    }

    fn cut(&self, arena: &Arena, span: u32, class: Class, len: u16) -> Option<Slot> {
        self.reserve().in_use += 1;
        let mut partial = self.class(class)?;
        partial.add(&arena.spans, span);
        let slot = partial.take(&arena.spans, class, len)?;
        drop(partial);
        let size = class.slot_size();
        self.free_bytes
            .fetch_add(((class.slots() - 1) * size) as u64, Relaxed);
        Some(slot)
    }

    /// Frees a slot.
    pub(crate) fn free(&self, arena: &Arena, slot: Slot) -> Freed {
        let class = slot.class();
        let size = class.slot_size() as u64;
        // Before the slot can be found by others, so that it never underflows.
        self.free_bytes.fetch_add(size, Relaxed);
        let emptied = self
            .class(class)
            .and_then(|mut partial| partial.give(&arena.spans, slot));
        let Some(span) = emptied else {
            return Freed { spans: 0 };
        };
        self.free_bytes
            .fetch_sub(class.slots() as u64 * size, Relaxed);
        let mut reserve = self.reserve();
        reserve.in_use = reserve.in_use.saturating_sub(1);
        let mut release = [None, None];
        if reserve.in_use == 0 {
            release = [Some(span), reserve.spare.take()];
        } else if reserve.spare.is_none() {
            reserve.spare = Some(span);
        } else {
            release = [Some(span), None];
        }
        drop(reserve);
        let mut spans = 0;
        for span in release.into_iter().flatten() {
            arena.release(span);
            spans += 1;
        }
        Freed { spans }
    }

    /// Gives the empty span in reserve back to the system.
    pub(crate) fn trim(&self, arena: &Arena) -> Freed {
        let spare = self.reserve().spare.take();
        if let Some(span) = spare {
            arena.release(span);
        }
        Freed {
            spans: u64::from(spare.is_some()),
        }
    }
}
