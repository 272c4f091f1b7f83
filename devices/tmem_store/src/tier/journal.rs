// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! For tests: everything that is written to page memory, in order.

use std::sync::Mutex;

/// Bytes that were written at an offset in the file.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) at: usize,
    pub(crate) bytes: Vec<u8>,
}

/// What was written since it began.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Option<Vec<Write>>>);

impl Journal {
    pub(crate) fn begin(&self) {
        *self.0.lock().unwrap() = Some(Vec::new());
    }

    pub(super) fn note(&self, segment: u32, offset: usize, bytes: &[u8]) {
        if let Some(writes) = &mut *self.0.lock().unwrap() {
            let at = segment as usize * super::SEGMENT + offset;
            let bytes = bytes.to_vec();
            writes.push(Write { at, bytes });
        }
    }

    /// What was written since the last call.
    pub(crate) fn take(&self) -> Vec<Write> {
        let mut writes = self.0.lock().unwrap();
        writes.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
