// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The file mapping behind all page memory, and the bytes of entries.
//!
//! Beside `area::ring` this is the crate's only module with `unsafe`. What it relies on:
//!
//! 1. *Entries do not overlap.* A [`Draft`] is made only by the sibling `log`
//!    module, which moves the end of its head segment, under the head's lock, over
//!    the place that it names, or takes the place of an entry that was freed: each is
//!    remembered once and taken out under a lock. It is neither `Copy` nor `Clone`, and
//!    becomes an [`Entry`](super::Entry) by being consumed.
//! 2. *Payloads are written once*, through the draft, and do not change until the entry
//!    is freed. Then another draft may have the place, if nobody can read it any more:
//!    no pin is left in the segment (those on the freed entry were counted before it was
//!    out of the index), and it is no victim, nor becomes one until the new entry is
//!    published or freed (`Segment::begin_filling` and `Segment::begin_cleaning`).
//! 3. *A segment stays as it is while it is referred to*: each draft, entry and pin
//!    counts as a reference, as does being a head, and only without any is it used
//!    anew or punched out (`segments`, `log`). A borrowed entry borrows from its
//!    holder, so that it is not freed meanwhile.
//! 4. *Headers are accessed atomically*, always: those of entries, those that
//!    segments begin with, and all of a stub. Nothing else of a segment with a stub is accessed. Where an entry begins one begins as long as the segment is in
//!    use; a header is added only within a place that a draft has. The word after the last entry is written by the holder of
//!    the head's lock only, and nobody else refers to it.
//! 5. *Tokens stay with their arena.* Whatever owns entries (a pool, through its
//!    account) owns a reference to their arena. Bounds are checked against the
//!    reservation all the same.
//! 6. *Nobody else writes to the file*: it is the store's own, or comes as a
//!    [`PageMemory`], whose maker has said so.
//! 7. *The file never shrinks* (it is sealed, or comes as a [`PageMemory`] whose maker
//!    has said so), so that mapped bytes of a used segment can always be accessed.

#![expect(unsafe_code, reason = "maps a file and lends its bytes")]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, SeekFrom};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MlockFlags, ProtFlags};

use super::SEGMENT;
use super::entry::{Draft, EntryRef, Location, Pin, Victim};
use super::format::{ALIGN, HEADER};

/// The file behind the page memory of a store that is no more.
#[derive(Debug)]
pub struct PageMemory {
    file: OwnedFd,
    /// Its maker vouches that it does not shrink: a file with a name cannot be sealed.
    stays: bool,
}

impl PageMemory {
    /// Takes over a duplicate of a store's [`page_memory`](crate::Store::page_memory).
    ///
    /// # Safety
    /// From now on nobody else writes to the file, in this process or another: its
    /// bytes are lent as they are in memory. So the earlier store is no more, or does
    /// nothing more.
    pub unsafe fn new(file: OwnedFd) -> Self {
        Self { file, stays: false }
    }

    /// Takes over a file on tmpfs that an earlier store had, or an empty one.
    ///
    /// # Safety
    /// As [`PageMemory::new`]; and nobody makes the file shorter, as long as the store
    /// is there. So it is a private file of this user's, and locked.
    pub unsafe fn named(file: OwnedFd) -> Self {
        Self { file, stays: true }
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(super) fn len(&self) -> Result<u64, (&'static str, io::Error)> {
        let stat = rustix::fs::fstat(&self.file).map_err(|error| ("see its size", error.into()))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }
}

/// A growing file, mapped once at its largest size.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    reserved: usize,
    file: OwnedFd,
    /// Bytes of the file; changed only under the arena's lock of free segments.
    file_len: AtomicU64,
    #[cfg(test)]
    pub(super) journal: super::journal::Journal,
}

// SAFETY: the mapping is plain memory that is valid from every thread until
// `drop`; who may access which bytes is decided by tokens (see above).
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; the methods that take `&self` either only make system
// calls or lend bytes under the rules above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Bytes by which the file grows.
    const GROWTH: u64 = 16 << 20;

    /// Reserves `reserved` bytes of address space over an empty file.
    pub(super) fn new(reserved: usize) -> Result<Self, (&'static str, io::Error)> {
        Self::over(Self::file_of_memory()?, reserved)
    }

    fn file_of_memory() -> Result<PageMemory, (&'static str, io::Error)> {
        let file = rustix::fs::memfd_create(
            c"tmem-pages",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )
        .map_err(|error| ("create a memfd", error.into()))?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK)
            .map_err(|error| ("seal a memfd", error.into()))?;
        // Nobody else has it.
        Ok(PageMemory { file, stays: false })
    }

    /// Reserves `reserved` bytes of address space over a file that never shrinks.
    pub(super) fn over(
        memory: PageMemory,
        reserved: usize,
    ) -> Result<Self, (&'static str, io::Error)> {
        let file_len = memory.len()?;
        let PageMemory { file, stays } = memory;
        let sealed = rustix::fs::fcntl_get_seals(&file)
            .map_err(|error| ("see whether the file can shrink", error.into()))?;
        if !stays && !sealed.contains(SealFlags::SHRINK) {
            return Err((
                "use a file that can shrink",
                io::ErrorKind::InvalidInput.into(),
            ));
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches
        // no memory that is in use.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                reserved,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &file,
                0,
            )
        }
        .map_err(|error| ("reserve address space for it", error.into()))?;
        // Pages of guests do not belong into core dumps; and a huge page could
        // not be given back in parts. Both are wishes: failure changes nothing.
        for advice in [Advice::LinuxDontDump, Advice::LinuxNoHugepage] {
            // SAFETY: this advice does not change what the memory holds.
            let _ = unsafe { rustix::mm::madvise(base, reserved, advice) };
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| {
            let error = io::Error::from(io::ErrorKind::AddrNotAvailable);
            ("map a memfd above address zero", error)
        })?;
        Ok(Self {
            base,
            reserved,
            file,
            file_len: AtomicU64::new(file_len),
            #[cfg(test)]
            journal: super::journal::Journal::default(),
        })
    }

    /// Makes the file so long that `end` bytes of it can be backed. To be called by
    /// one thread at a time.
    pub(super) fn grow(&self, end: u64) -> io::Result<()> {
        if end > self.file_len.load(Relaxed) {
            let len = end.next_multiple_of(Self::GROWTH).min(self.reserved as u64);
            rustix::fs::ftruncate(&self.file, len)?;
            self.file_len.store(len, Relaxed);
        }
        Ok(())
    }

    /// Bytes that the file has.
    pub(super) fn len(&self) -> u64 {
        self.file_len.load(Relaxed)
    }

    /// Has the system back bytes `from..to` of a segment with memory, so that
    /// later accesses cannot fail. The file is to be long enough.
    pub(super) fn back(&self, segment: u32, from: usize, to: usize) -> io::Result<()> {
        let start = u64::from(segment) * SEGMENT as u64 + from as u64;
        let len = to.saturating_sub(from);
        let end = start + len as u64;
        rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, start, len as u64)
        })?;
        if end <= self.reserved as u64 {
            // Maps all pages in one go; without it each costs a fault. A wish:
            // the memory is there by now.
            // SAFETY: the bytes lie in the mapping, by the check.
            let start = unsafe { self.base.add(segment as usize * SEGMENT + from) };
            // SAFETY: as above; this advice does not change what memory holds.
            let _ = unsafe {
                rustix::mm::madvise(start.as_ptr().cast(), len, Advice::LinuxPopulateWrite)
            };
        }
        Ok(())
    }

    /// Gives the memory of a segment from byte `from` on, to which nobody refers, back
    /// to the system.
    pub(super) fn punch(&self, segment: u32, from: usize) -> io::Result<()> {
        let Some(len) = SEGMENT.checked_sub(from).filter(|len| *len > 0) else {
            return Ok(());
        };
        rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(
                &self.file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                u64::from(segment) * SEGMENT as u64 + from as u64,
                len as u64,
            )
        })?;
        #[cfg(test)]
        drop(self.journal.note(segment, from, &vec![0; len]));
        Ok(())
    }

    /// Writes zeros over bytes of a segment to which nobody refers.
    pub(super) fn clear(&self, segment: u32, bytes: usize) -> io::Result<()> {
        let mut at = u64::from(segment) * SEGMENT as u64;
        let end = at + bytes as u64;
        while at < end {
            let zeros = [0; 4096];
            let len = (end - at).min(zeros.len() as u64);
            let zeros = zeros.get(..usize::try_from(len).unwrap_or(0));
            let written = rustix::io::retry_on_intr(|| {
                rustix::io::pwrite(&self.file, zeros.unwrap_or_default(), at)
            })?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            at += written as u64;
        }
        Ok(())
    }

    /// Copies bytes out of a segment, without any memory being taken for holes.
    pub(super) fn read(&self, segment: u32, bytes: &mut [u8]) -> io::Result<()> {
        let start = u64::from(segment) * SEGMENT as u64;
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let read = rustix::io::retry_on_intr(|| {
                rustix::io::pread(&self.file, &mut *rest, start + done as u64)
            })?;
            if read == 0 {
                // Beyond the end of the file.
                rest.fill(0);
                break;
            }
            done += read;
        }
        Ok(())
    }

    /// The first segment from this one on that may have memory behind it, if any has.
    pub(super) fn next_backed(&self, segment: u32) -> io::Result<Option<u32>> {
        let start = u64::from(segment) * SEGMENT as u64;
        match rustix::fs::seek(&self.file, SeekFrom::Data(start)) {
            Ok(at) => Ok(u32::try_from(at / SEGMENT as u64).ok()),
            // There is nothing but a hole.
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Has pages stay in memory from the first access on: as many as there can be count for
    /// the process's limit from now on.
    pub(super) fn lock(&self) -> io::Result<()> {
        let base: *mut c_void = self.base.as_ptr().cast();
        // SAFETY: the mapping has this size. That its pages stay changes nothing that they
        // hold.
        unsafe { rustix::mm::mlock_with(base, self.reserved, MlockFlags::ONFAULT) }?;
        Ok(())
    }

    /// Takes all pages out of this process's page tables, a piece at a time so that nobody
    /// who maps something waits for long. What is accessed later is mapped anew.
    pub(super) fn unmap(&self) -> io::Result<()> {
        const PIECE: usize = 8 << 20;
        let end = usize::try_from(self.len()).map_or(self.reserved, |len| len.min(self.reserved));
        for start in (0..end).step_by(PIECE) {
            // SAFETY: the offset is below `reserved`, the size of the mapping.
            let piece = unsafe { self.base.add(start) }.as_ptr().cast();
            let len = PIECE.min(end - start);
            // SAFETY: the bytes lie in the mapping, which is a shared one of a file: the
            // file has what they hold, and who accesses them finds it there.
            unsafe { rustix::mm::madvise(piece, len, Advice::LinuxDontNeed) }?;
        }
        Ok(())
    }

    /// Bytes that there can be.
    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }

    /// The file, which others may map and read.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Bytes of memory that the system reports behind the file.
    pub(super) fn backed_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&self.file)?;
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
    }

    /// Where bytes `offset..offset + len` of a segment start, if they are mapped.
    fn start(&self, segment: u32, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= SEGMENT)
            && (segment as usize) < self.reserved / SEGMENT;
        // SAFETY: the offset is below `reserved`, the size of the mapping that
        // starts at `base`, by the check.
        inside.then(|| unsafe { self.base.add(segment as usize * SEGMENT + offset) })
    }

    /// A word of a header. The segment is to be referred to, and backed as far.
    pub(super) fn word(&self, segment: u32, offset: usize) -> Option<&AtomicU64> {
        if !offset.is_multiple_of(ALIGN) {
            return None;
        }
        let start = self.start(segment, offset, ALIGN)?;
        // SAFETY: the bytes are mapped (checked) and aligned, since segments are
        // (the mapping begins at a page) and the offset is. Headers are accessed
        // through this only (rule 4), and as plain words any bytes are valid.
        Some(unsafe { start.cast().as_ref() })
    }

    /// Stores a word of a header. What was stored and filled before is there for who
    /// sees it. `None` if it is not mapped.
    pub(super) fn store(&self, segment: u32, offset: usize, word: u64) -> Option<()> {
        let to = self.word(segment, offset)?;
        #[cfg(test)]
        let _noted = self.journal.note(segment, offset, &word.to_ne_bytes());
        to.store(word, Release);
        Some(())
    }

    /// Sets or clears bits of a word of a header, and leaves the others. What was stored and filled
    /// before is there for who sees it. `None` if it is not mapped.
    pub(super) fn mark(&self, segment: u32, offset: usize, bits: u64, is_set: bool) -> Option<()> {
        let to = self.word(segment, offset)?;
        #[cfg(test)]
        let _noted = self.journal.note_with(segment, offset, || {
            let word = to.load(Relaxed);
            let word = if is_set { word | bits } else { word & !bits };
            word.to_ne_bytes().to_vec()
        });
        if is_set {
            to.fetch_or(bits, Release);
        } else {
            to.fetch_and(!bits, Release);
        }
        Some(())
    }

    fn payload(&self, location: Location) -> Option<NonNull<u8>> {
        let offset = location.offset() + HEADER;
        self.start(location.segment(), offset, location.len())
    }

    /// The payload at a location. Only for a complete entry whose segment is
    /// referred to meanwhile.
    fn lend(&self, location: Location) -> &[u8] {
        let Some(start) = self.payload(location) else {
            return &[];
        };
        // SAFETY: the bytes are mapped (checked) and backed, since the segment is in
        // use. Nobody writes to them any more (rule 2), and they stay (rule 3).
        unsafe { std::slice::from_raw_parts(start.as_ptr(), location.len()) }
    }

    /// The payload of an entry at rest.
    pub(super) fn bytes<'a>(&'a self, entry: EntryRef<'a>) -> &'a [u8] {
        self.lend(entry.location())
    }

    /// The payload of an entry that is or was at rest.
    pub(super) fn pinned<'a>(&'a self, pin: &'a Pin) -> &'a [u8] {
        self.lend(pin.location())
    }

    /// The payload of an entry of a victim, which was found to be complete.
    pub(super) fn of_victim<'a>(&'a self, victim: &'a Victim, location: Location) -> &'a [u8] {
        if location.segment() != victim.segment() {
            return &[];
        }
        self.lend(location)
    }

    /// Copies the payload of a draft that was made for as many bytes.
    pub(super) fn fill(&self, draft: &mut Draft, bytes: &[u8]) {
        let location = draft.location;
        let (Some(to), true) = (self.payload(location), bytes.len() == location.len()) else {
            return;
        };
        // SAFETY: the bytes are mapped (checked) and backed, since the segment is in
        // use; the draft is borrowed exclusively, so nobody else refers to them
        // (rule 1), and they are not part of `bytes`, for the same reason.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        #[cfg(test)]
        drop(
            self.journal
                .note(location.segment(), location.offset() + HEADER, bytes),
        );
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let base: *mut c_void = self.base.as_ptr().cast();
        // SAFETY: the mapping was made in `new` with this size, and no borrow
        // of it outlives `self`. An error would mean that it is gone already.
        let _ = unsafe { rustix::mm::munmap(base, self.reserved) };
    }
}
