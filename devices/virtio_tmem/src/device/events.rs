// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Events for the driver.

use std::sync::atomic::{AtomicU32, Ordering};

use tmem_wire::EventKind;

const KINDS: [EventKind; 2] = [EventKind::Limits, EventKind::Detach];

/// Calls whoever serves the event queue.
type Wake = Box<dyn Fn() + Send + Sync>;

/// Events that the driver has not got yet; those of one kind are merged.
#[derive(Default)]
pub struct Events {
    /// Bit `1 << kind` for every kind of event.
    pending: AtomicU32,
    wake: std::sync::Mutex<Option<Wake>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

impl Events {
    /// Notes an event for the driver and wakes whoever serves the event queue.
    pub fn raise(&self, kind: EventKind) {
        self.pending.fetch_or(1 << kind as u32, Ordering::Release);
        let wake = self.wake.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(wake) = wake.as_ref() {
            wake();
        }
    }

    /// Sets what is called when there is an event; `None` when nobody serves the
    /// event queue any more. It must not block.
    pub fn set_wake(&self, wake: Option<Wake>) {
        *self.wake.lock().unwrap_or_else(|e| e.into_inner()) = wake;
    }

    /// Whether there is an event.
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire) != 0
    }

    /// The driver did not get `kind` after all. Nobody is woken: it would be for the same
    /// buffer.
    #[cfg(feature = "virtqueue")]
    pub(super) fn keep(&self, kind: EventKind) {
        self.pending.fetch_or(1 << kind as u32, Ordering::Release);
    }

    /// An event that the driver has not got yet, if there is any.
    pub fn first(&self) -> Option<EventKind> {
        let pending = self.pending.load(Ordering::Acquire);
        KINDS
            .into_iter()
            .find(|kind| pending & (1 << *kind as u32) != 0)
    }

    /// The driver gets `kind` now. To be called before it does: what is raised meanwhile
    /// is told once more.
    pub fn clear(&self, kind: EventKind) {
        self.pending
            .fetch_and(!(1 << kind as u32), Ordering::AcqRel);
    }
}
