// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The file mapping behind all page memory, and the slots of it.
//!
//! This is the crate's only module with `unsafe`. What it relies on:
//!
//! 1. *Slots do not overlap.* A [`Slot`] can be made only by
//!    [`Slot::new`], which only the sibling `span` module calls, for a place
//!    whose bit it just turned from free to used; the bit is turned back only
//!    by consuming the slot. A slot is neither `Copy` nor `Clone`, so two
//!    slots of one arena never name the same bytes. At rest, a slot is packed
//!    into 8 bytes by the sibling `cells` module, which consumes it and gives
//!    it out once.
//! 2. *Borrows follow the slot.* Bytes are borrowed from the slot: shared from
//!    `&Slot`, exclusively from `&mut Slot`.
//! 3. *Slots stay with their arena.* Whatever owns slots (a pool, through its
//!    account) owns a reference to their arena. Bounds are checked against the
//!    reservation all the same.
//! 4. *The file never shrinks* (it is sealed), so that mapped bytes of a used
//!    span can always be accessed.

#![expect(unsafe_code, reason = "maps a file and lends its bytes")]

use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::SPAN_SIZE;
use super::class::Class;

/// A place of page memory that its owner alone may read and write.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is not freed is memory lost"]
pub(crate) struct Slot {
    span: u32,
    nth: u8,
    class: Class,
    len: u16,
}

impl Slot {
    /// To be called only for a place whose bit was just turned to used.
    pub(super) fn new(span: u32, nth: u8, class: Class, len: u16) -> Self {
        Self {
            span,
            nth,
            class,
            len,
        }
    }

    /// The span it is in.
    pub(super) fn span(&self) -> u32 {
        self.span
    }

    /// Its place in the span.
    pub(super) fn nth(&self) -> u8 {
        self.nth
    }

    /// Its size class.
    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// Bytes of it that are in use.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Consumes the slot into 54 bits: len, class, place, span.
    pub(super) fn pack(self) -> u64 {
        u64::from(self.len)
            | u64::from(self.class.number()) << 13
            | u64::from(self.nth) << 18
            | u64::from(self.span) << 26
    }

    /// Undoes [`Slot::pack`]. To be called once for what it returned, or for
    /// a [`SlotRef`].
    #[expect(clippy::cast_possible_truncation, reason = "takes bit fields apart")]
    pub(super) fn unpack(packed: u64) -> Option<Self> {
        Some(Self {
            len: (packed & 0x1fff) as u16,
            class: Class::nth((packed >> 13 & 0x1f) as usize)?,
            nth: (packed >> 18) as u8,
            span: (packed >> 26) as u32,
        })
    }
}

/// A packed slot that is borrowed from where it rests.
#[derive(Debug)]
pub(crate) struct SlotRef<'a> {
    slot: Slot,
    owner: PhantomData<&'a Slot>,
}

impl<'a> SlotRef<'a> {
    /// Borrows a slot.
    pub(super) fn of(slot: &'a Slot) -> Self {
        Self {
            slot: Slot { ..*slot },
            owner: PhantomData,
        }
    }

    /// To be called only while `_owner` holds `packed`.
    pub(super) fn new<T>(packed: u64, _owner: &'a T) -> Option<Self> {
        Some(Self {
            slot: Slot::unpack(packed)?,
            owner: PhantomData,
        })
    }
}

/// A growing file, mapped once at its largest size.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    reserved: usize,
    file: OwnedFd,
    /// Bytes of the file; changed only under the arena's lock of free spans.
    file_len: AtomicU64,
}

// SAFETY: the mapping is plain memory that is valid from every thread until
// `drop`; who may access which bytes is decided by slots (see above).
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; the methods that take `&self` either only make system
// calls or lend bytes under the rules above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Bytes by which the file grows.
    const GROWTH: u64 = 16 << 20;

    /// Reserves `reserved` bytes of address space over an empty file.
    pub(super) fn new(reserved: usize) -> Result<Self, (&'static str, io::Error)> {
        let file = rustix::fs::memfd_create(
            c"tmem-pages",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )
        .map_err(|error| ("create a memfd", error.into()))?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK)
            .map_err(|error| ("seal a memfd", error.into()))?;
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
            file_len: AtomicU64::new(0),
        })
    }

    /// Has the system back `span` with memory, so that later accesses cannot
    /// fail. To be called for one span at a time.
    pub(super) fn back(&self, span: u32) -> io::Result<()> {
        let start = u64::from(span) * SPAN_SIZE as u64;
        let end = start + SPAN_SIZE as u64;
        if end > self.file_len.load(Relaxed) {
            let len = end.next_multiple_of(Self::GROWTH).min(self.reserved as u64);
            rustix::fs::ftruncate(&self.file, len)?;
            self.file_len.store(len, Relaxed);
        }
        rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(
                &self.file,
                FallocateFlags::KEEP_SIZE,
                start,
                SPAN_SIZE as u64,
            )
        })?;
        if end <= self.reserved as u64 {
            // Maps all pages in one go; without it each costs a fault. A wish:
            // the memory is there by now.
            // SAFETY: the span lies in the mapping, by the check.
            let start = unsafe { self.base.add(span as usize * SPAN_SIZE) };
            // SAFETY: as above; this advice does not change what memory holds.
            let _ = unsafe {
                rustix::mm::madvise(start.as_ptr().cast(), SPAN_SIZE, Advice::LinuxPopulateWrite)
            };
        }
        Ok(())
    }

    /// Gives the memory of `span`, none of whose slots is used, back to the
    /// system.
    pub(super) fn punch(&self, span: u32) -> io::Result<()> {
        rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(
                &self.file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                u64::from(span) * SPAN_SIZE as u64,
                SPAN_SIZE as u64,
            )
        })?;
        Ok(())
    }

    /// Bytes of memory that the system reports behind the file.
    pub(super) fn backed_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&self.file)?;
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
    }

    /// Where the bytes of `slot` start, if `len` of them are mapped.
    fn start(&self, slot: &Slot) -> Option<NonNull<u8>> {
        let offset = usize::from(slot.nth) * slot.class.slot_size();
        let inside = slot.len() <= slot.class.slot_size()
            && offset + slot.class.slot_size() <= SPAN_SIZE
            && (slot.span as usize) < self.reserved / SPAN_SIZE;
        // SAFETY: the offset is below `reserved`, the size of the mapping that
        // starts at `base`, by the check.
        inside.then(|| unsafe { self.base.add(slot.span as usize * SPAN_SIZE + offset) })
    }

    /// The bytes of a slot at rest.
    pub(super) fn bytes<'a>(&'a self, slot: &SlotRef<'a>) -> &'a [u8] {
        let Some(start) = self.start(&slot.slot) else {
            return &[];
        };
        // SAFETY: `len` bytes from `start` are mapped (checked) and backed,
        // since the slot is in use. They are borrowed from the slot for 'a, so
        // nobody holds `&mut` to them (rules 1 and 2 above) and they are not
        // punched out.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), slot.slot.len()) }
    }

    /// The bytes of a slot, to be written.
    pub(super) fn bytes_mut<'a>(&'a self, slot: &'a mut Slot) -> &'a mut [u8] {
        let Some(start) = self.start(slot) else {
            return &mut [];
        };
        // SAFETY: as in `bytes`; the slot is borrowed exclusively, so nobody
        // else refers to its bytes.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), slot.len()) }
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
