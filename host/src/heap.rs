// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The C library's heap, in which a store has its index.
//!
//! glibc gives each thread an arena of its own, and keeps what is freed in it.
//! An index that one queue's thread has filled and a pool's end has freed
//! would stay with the process, and the next thread would fill another arena:
//! many times what the VM may hold.

#![expect(unsafe_code, reason = "calls the C library")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

/// Bytes beyond the index for which the heap is looked through: less is used again
/// soon, and a look takes milliseconds.
const WORTHWHILE: u64 = 4 << 20;

/// Stays open: a confined thread opens nothing.
static STATM: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/statm").ok());

/// Opens what [`Memory::of_process`] reads, for threads that may open no files.
pub fn open() {
    LazyLock::force(&STATM);
}

/// Has all threads use the same arena. To be called before there are any.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a parameter of the heap, which is allowed at any time.
    unsafe {
        // Fails only for a value that the library does not know.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory of the heap back to the system when the process has more than its
/// index needs.
#[derive(Debug, Default)]
pub struct Trimmer {
    /// What the process had beside the index after the last time.
    kept: u64,
}

impl Trimmer {
    /// The index has `bytes` now. To be called now and then, by a thread that
    /// serves nobody. Says whether memory was given back.
    pub fn look(&mut self, bytes: u64) -> bool {
        self.look_at(bytes, &mut Memory::of_process)
    }

    fn look_at(&mut self, index: u64, memory: &mut impl FnMut() -> Option<Memory>) -> bool {
        let beside = |memory: Memory| memory.private.saturating_sub(index);
        let Some(before) = memory().map(beside) else {
            return false;
        };
        self.kept = self.kept.min(before);
        if before - self.kept < WORTHWHILE {
            return false;
        }
        trim();
        // What stays is in use, or cannot be had back.
        self.kept = memory().map_or(before, beside);
        true
    }
}

/// What a process has of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All that is resident.
    pub resident: u64,
    /// Its own: neither of files nor shared.
    pub private: u64,
}

impl Memory {
    /// That of this process (proc_pid_statm(5)); `None` if it cannot be known.
    pub fn of_process() -> Option<Self> {
        let mut bytes = [0; 256];
        let len = STATM.as_ref()?.read_at(&mut bytes, 0).ok()?;
        let statm = std::str::from_utf8(bytes.get(..len)?).ok()?;
        let mut pages = statm.split_ascii_whitespace().skip(1);
        let mut bytes = || -> Option<u64> {
            let pages: u64 = pages.next()?.parse().ok()?;
            pages.checked_mul(rustix::param::page_size().try_into().ok()?)
        };
        let (resident, shared) = (bytes()?, bytes()?);
        Some(Self {
            resident,
            private: resident.saturating_sub(shared),
        })
    }
}

fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: gives unused pages of the heap back; whatever is allocated stays.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_looked_through_when_it_has_grown_beside_the_index() {
        let mut trimmer = Trimmer::default();
        let mut looks = |index: u64, private: &[u64]| {
            let mut private = private.iter();
            trimmer.look_at(index << 20, &mut || {
                let private = private.next()? << 20;
                Some(Memory {
                    resident: private,
                    private,
                })
            })
        };
        // At the start there is no index, and hardly anything else.
        assert!(!looks(0, &[3]));
        assert!(!looks(64, &[67]));
        // The index has gone, and its memory goes.
        assert!(looks(0, &[67, 5]));
        assert!(!looks(0, &[6]));
        // Nothing could be had back: it is not looked again for the same.
        assert!(looks(0, &[20, 20]));
        assert!(!looks(0, &[20]));
        assert!(!looks(0, &[]));
        // It was used again.
        assert!(!looks(30, &[31]));
        assert!(looks(30, &[36, 31]));
    }

    #[test]
    fn this_process_has_memory() {
        let memory = Memory::of_process().unwrap();
        assert!(memory.private > 0 && memory.resident > memory.private);
    }
}
