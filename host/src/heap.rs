// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The C library's heap, in which a store has its index.
//!
//! glibc gives each thread an arena of its own, and keeps what is freed in it.
//! An index that one queue's thread has filled and a pool's end has freed
//! would stay with the process, and the next thread would fill another arena:
//! many times what the VM may hold.

#![expect(unsafe_code, reason = "calls the C library")]

/// Bytes by which the index shrinks before memory is looked for that the
/// system can have: less is used again soon, and a look takes milliseconds.
const WORTHWHILE: u64 = 4 << 20;

/// Has all threads use the same arena. To be called before there are any.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a parameter of the heap, which is allowed at any time.
    unsafe {
        // Fails only for a value that the library does not know.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory of the heap back to the system when the index has shrunk.
#[derive(Debug, Default)]
pub struct Trimmer {
    /// The most that the index had since the last time.
    most: u64,
}

impl Trimmer {
    /// The index has `bytes` now. To be called now and then, by a thread that
    /// serves nobody. Says whether memory was given back.
    pub fn look(&mut self, bytes: u64) -> bool {
        self.most = self.most.max(bytes);
        if self.most - bytes < WORTHWHILE {
            return false;
        }
        self.most = bytes;
        trim();
        true
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
    fn memory_goes_back_when_enough_was_freed() {
        let mut trimmer = Trimmer::default();
        assert!(!trimmer.look(64 << 20));
        assert!(!trimmer.look(63 << 20));
        assert!(trimmer.look(32 << 20));
        assert!(!trimmer.look(32 << 20));
        assert!(!trimmer.look(40 << 20));
        assert!(trimmer.look(0));
    }
}
