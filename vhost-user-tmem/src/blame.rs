// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! For which machine a thread works: should it crash, that is noted for the next daemon.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::takeover::Note;

thread_local! {
    /// Whether [`MACHINE`] is there. Its first use allocates, as a signal handler must not.
    static IS_KNOWN: Cell<bool> = const { Cell::new(false) };
    static MACHINE: RefCell<Option<Arc<Note>>> = const { RefCell::new(None) };
}

/// The calling thread works for the machine with this note.
pub(crate) fn take(note: Option<&Arc<Note>>) {
    if IS_KNOWN.get() {
        return;
    }
    if let Some(note) = note {
        MACHINE.set(Some(note.clone()));
        IS_KNOWN.set(true);
    }
}

/// The calling thread has crashed. May be called by a signal handler.
pub fn count() {
    if !IS_KNOWN.get() {
        return;
    }
    // Fails only while that is set, or once the thread is at its end.
    let _ = MACHINE.try_with(|machine| {
        if let Ok(machine) = machine.try_borrow()
            && let Some(note) = &*machine
        {
            note.count_crash();
        }
    });
}
