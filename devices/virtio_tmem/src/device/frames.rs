// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory of the VM that it gives back: punched out of the file that backs it,
//! so that every process that maps the file loses it, and the host has it.
//!
//! The file and its mappings stay as long as they are: who reads or writes there
//! afterwards, rightly or not, finds zeros in fresh memory. So a driver that gives
//! back what it still uses harms nothing but its own data.
//!
//! That holds where the host has fresh memory. A pool of huge pages may be empty by
//! then, and a file system full: the VM could not go on. So such memory stays,
//! unless the operator allows otherwise ([`GiveBack`]).

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryRegion};

use super::backing_file::FileSystem;
use tmem_wire::MemoryRange;

/// Bytes that are given back at once, at most, unless a page is larger: so long
/// requests of other queues have to wait.
const STEP: u64 = 4 << 20;

/// Why memory was not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreleased {
    /// It is not the VM's, or not as a whole.
    Foreign,
    /// It is not backed by a file, or not certain to come back, or only a part
    /// of a page.
    Kept,
    /// The host has refused.
    Failed,
}

/// Which memory goes back to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GiveBack {
    /// What is certain to come back when the VM touches it again: that of a memfd,
    /// or of another tmpfs without a limit, in ordinary pages.
    #[default]
    Certain,
    /// Whatever a file backs, in whole pages of the file system. The VM may come to
    /// its end where the host has no huge page, or no room in the file system,
    /// by then.
    Any,
}

impl GiveBack {
    /// Reads it.
    ///
    /// # Errors
    /// A sentence that says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "certain" => Ok(Self::Certain),
            "any" => Ok(Self::Any),
            _ => Err(format!(
                "'{text}' is no memory to give back; write certain or any"
            )),
        }
    }
}

/// How much of a VM's memory the host backs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backing {
    /// Bytes of memory that files back.
    pub bytes: u64,
    /// Bytes that these files hold now.
    pub backed: u64,
}

impl Backing {
    /// Bytes of the VM's memory that the host has for others.
    pub fn given(&self) -> u64 {
        self.bytes.saturating_sub(self.backed)
    }
}

/// Memory of a VM.
pub trait Frames {
    /// Gives whole pages back to the host, as far as `which` says, while no request
    /// of the device reads or writes the VM's memory.
    ///
    /// # Errors
    /// Nothing of a range that is [`Unreleased::Foreign`] or
    /// [`Unreleased::Kept`] was given back; of one that has failed, some may be.
    fn release(
        &self,
        range: &MemoryRange,
        which: GiveBack,
        in_use: &InUse,
    ) -> Result<(), Unreleased>;

    /// How much of it the host backs; none if that cannot be known.
    fn backing(&self) -> Option<Backing>;
}

/// Requests that read or write the VM's memory, as opposed to those that give it
/// back.
#[derive(Debug, Default)]
pub struct InUse(RwLock<()>);

impl InUse {
    /// The memory is in use while the guard lives.
    pub(super) fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `release` while the memory is not in use.
    fn alone<T>(&self, release: impl FnOnce() -> T) -> T {
        let _alone = self.0.write().unwrap_or_else(PoisonError::into_inner);
        release()
    }
}

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
