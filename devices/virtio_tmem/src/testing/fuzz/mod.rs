// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the fuzz targets run. It stands here so that tests can replay what
//! the fuzzer found with any compiler.
//!
//! [`chains`] takes the bytes for what a hostile driver does to its rings and
//! memory: nothing must panic, hang or leak. [`histories`] takes them for what
//! two well-behaved drivers ask for, and checks every answer against a model.
//! [`page_memory`] takes them for damage to what a store has left, and checks that
//! another one believes only what was written.

mod chains;
mod damage;
mod histories;
mod model;
mod page_memory;
mod pages;
mod seeds;

pub use chains::chains;
pub use histories::histories;
pub use page_memory::page_memory;
pub use seeds::seeds;

/// Bytes of the fuzzer, taken from the front; zeros once they are used up.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn some(&mut self, count: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(count.min(self.0.len()));
        self.0 = later;
        now
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let some = self.some(N);
        array[..some.len()].copy_from_slice(some);
        array
    }

    fn u8(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}
