// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory of the vm-memory crate as [`Frames`].

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use virtio_serve::FileSystem;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryRegion};

use super::frames::{Backing, Frames, GiveBack, InUse, Unreleased};
use tmem_wire::MemoryRange;

/// Bytes that are given back at once, at most, unless a page is larger: so long
/// requests of other queues have to wait.
const STEP: u64 = 4 << 20;

impl<M: GuestMemory> Frames for M {
    fn release(
        &self,
        range: &MemoryRange,
        which: GiveBack,
        in_use: &InUse,
    ) -> Result<(), Unreleased> {
        // Behind an IOMMU, addresses are not those of memory.
        let memory = self.physical_memory().ok_or(Unreleased::Kept)?;
        // All of it is judged first.
        let mut kept = false;
        for part in Parts::of(memory, range) {
            kept |= !part?.goes_back(which);
        }
        if kept {
            return Err(Unreleased::Kept);
        }
        for part in Parts::of(memory, range) {
            let part = part?;
            let file = part.region.file_offset().ok_or(Unreleased::Kept)?;
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            in_use
                .alone(|| fallocate(file.file(), punch, part.start()?, part.bytes))
                .map_err(|_| Unreleased::Failed)?;
        }
        Ok(())
    }

    fn backing(&self) -> Option<Backing> {
        /// What `st_blocks` counts, in bytes.
        const BLOCK: u64 = 512;
        let mut sum = Backing::default();
        // Regions may be parts of one file.
        let mut files = BTreeSet::new();
        for region in self.physical_memory()?.iter() {
            let Some(file) = region.file_offset() else {
                continue;
            };
            sum.bytes = sum.bytes.saturating_add(region.len());
            let known = file.file().metadata().ok()?;
            if files.insert((known.dev(), known.ino())) {
                let held = known.blocks().saturating_mul(BLOCK);
                sum.backed = sum.backed.saturating_add(held);
            }
        }
        // The files may have more than the VM's memory.
        sum.backed = sum.backed.min(sum.bytes);
        Some(sum)
    }
}

/// A part of a range that lies in one region.
struct Part<'m, R> {
    region: &'m R,
    /// In the region, in bytes.
    offset: u64,
    bytes: u64,
    /// That of the region's file, if it has one.
    system: Option<FileSystem>,
}

impl<R: GuestMemoryRegion> Part<'_, R> {
    /// Where it begins in the region's file.
    fn start(&self) -> Result<u64, Errno> {
        let file = self.region.file_offset().ok_or(Errno::BADF)?;
        file.start().checked_add(self.offset).ok_or(Errno::FBIG)
    }

    fn goes_back(&self, which: GiveBack) -> bool {
        let (Some(system), Ok(start)) = (self.system, self.start()) else {
            return false;
        };
        // Of a part of a huge page the kernel takes nothing, but erases it.
        let is_whole = start.is_multiple_of(system.page) && self.bytes.is_multiple_of(system.page);
        is_whole && (system.refills || which == GiveBack::Any)
    }
}

/// The parts of a range, none of them longer than [`STEP`].
struct Parts<'m, M: ?Sized> {
    memory: &'m M,
    /// Where the next begins, and how many bytes are left.
    at: u64,
    left: u64,
    /// File system of the region that begins there, once it was looked at.
    known: Option<(GuestAddress, Option<FileSystem>)>,
}

impl<'m, M: GuestMemoryBackend + ?Sized> Parts<'m, M> {
    fn of(memory: &'m M, range: &MemoryRange) -> Self {
        Self {
            memory,
            at: range.address,
            left: range.bytes,
            known: None,
        }
    }

    fn file_system(&mut self, region: &M::R) -> Option<FileSystem> {
        let start = region.start_addr();
        if let Some((_, system)) = self.known.filter(|(known, _)| *known == start) {
            return system;
        }
        let file = region.file_offset();
        let system = file.and_then(|file| FileSystem::of(file.file()).ok());
        self.known = Some((start, system));
        system
    }

    fn cut(&mut self) -> Result<Part<'m, M::R>, Unreleased> {
        let (region, offset) = self
            .memory
            .to_region_addr(GuestAddress(self.at))
            .ok_or(Unreleased::Foreign)?;
        let offset = offset.0;
        let room = region.len().saturating_sub(offset);
        let system = self.file_system(region);
        let step = system.map_or(STEP, |system| system.page.max(STEP));
        let bytes = self.left.min(room).min(step);
        if bytes == 0 {
            return Err(Unreleased::Foreign);
        }
        self.at = self.at.saturating_add(bytes);
        self.left -= bytes;
        Ok(Part {
            region,
            offset,
            bytes,
            system,
        })
    }
}

impl<'m, M: GuestMemoryBackend + ?Sized> Iterator for Parts<'m, M> {
    type Item = Result<Part<'m, M::R>, Unreleased>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let part = self.cut();
        if part.is_err() {
            self.left = 0;
        }
        Some(part)
    }
}
