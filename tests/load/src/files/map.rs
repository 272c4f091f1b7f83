// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files read and written through memory.

use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;
use std::ffi::c_void;
use std::fs::File;

/// What `offset` of a mapping must be a multiple of.
pub(crate) const PAGE: u64 = 4096;

/// A shared mapping of part of a file.
pub(crate) struct Map {
    start: *mut c_void,
    length: usize,
}

impl Map {
    /// Maps `length` bytes of `file` at `offset`; all of them must be in the
    /// file, and stay there.
    pub(crate) fn new(file: &File, offset: u64, length: usize) -> rustix::io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: A new mapping at a place of the kernel's choice: nothing else
        // is there.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                MapFlags::SHARED,
                file,
                offset,
            )
        }?;
        Ok(Self { start, length })
    }

    /// The bytes.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: The mapping is `length` bytes long, readable and writable,
        // and lives as long as `self`. The file is this thread's own: nobody
        // else writes to it or makes it shorter while this is borrowed. Every
        // bit pattern is a u8.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.length) }
    }

    /// Has what was written on the disk.
    pub(crate) fn sync(&mut self) -> rustix::io::Result<()> {
        // SAFETY: The range is the mapping, which is ours.
        unsafe { rustix::mm::msync(self.start, self.length, rustix::mm::MsyncFlags::SYNC) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: The range is the mapping, which nobody borrows any more.
        // A failure leaves it mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.start, self.length) };
    }
}
