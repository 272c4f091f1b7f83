// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! For tests: everything that is written to page memory, in order.

use std::sync::{Mutex, MutexGuard};

use super::SEGMENT;

/// What was noted.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    /// Bytes were written at an offset in the file.
    Write { at: usize, bytes: Vec<u8> },
    /// What a test has to say.
    Mark(u64),
}

/// What was noted since it began.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Option<Vec<Note>>>);

type Noted<'a> = MutexGuard<'a, Option<Vec<Note>>>;

impl Journal {
    pub(crate) fn begin(&self) {
        *self.0.lock().unwrap() = Some(Vec::new());
    }

    /// Nothing else is noted until what is returned is dropped.
    pub(super) fn note(&self, segment: u32, offset: usize, bytes: &[u8]) -> Noted<'_> {
        self.note_with(segment, offset, || bytes.to_vec())
    }

    /// The same of bytes that follow from what is there.
    pub(super) fn note_with(
        &self,
        segment: u32,
        offset: usize,
        bytes: impl FnOnce() -> Vec<u8>,
    ) -> Noted<'_> {
        let mut notes = self.0.lock().unwrap();
        if let Some(notes) = &mut *notes {
            let at = segment as usize * SEGMENT + offset;
            let bytes = bytes();
            notes.push(Note::Write { at, bytes });
        }
        notes
    }

    pub(crate) fn mark(&self, mark: u64) {
        if let Some(notes) = &mut *self.0.lock().unwrap() {
            notes.push(Note::Mark(mark));
        }
    }

    /// What was noted since the last call.
    pub(crate) fn take(&self) -> Vec<Note> {
        let mut notes = self.0.lock().unwrap();
        notes.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
