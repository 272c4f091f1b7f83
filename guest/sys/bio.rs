// SPDX-License-Identifier: GPL-2.0

//! Bios, owned: whoever holds one has to end it.

use super::{
    bindings,
    blockdev::Shadow, //
};
use core::{
    mem::ManuallyDrop,
    ptr::{
        addr_of,
        NonNull, //
    },
};
use kernel::prelude::*;

/// Binary logarithm of the sectors in a page.
const PAGE_SECTORS_SHIFT: u32 = kernel::page::PAGE_SHIFT as u32 - 9;

/// Sectors in a page.
pub(crate) const PAGE_SECTORS: u64 = 1 << PAGE_SECTORS_SHIFT;

/// Longest part of a bio's memory in one descriptor, in bytes: what swiotlb is sure to map.
pub(crate) const SEGMENT_BYTES: u32 = 64 << 10;

/// What a bio asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// From the disk to memory.
    Read,
    /// From memory to the disk.
    Write,
    /// The content is not needed any more.
    Discard,
    /// Anything else.
    Other,
}

/// How a bio ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done.
    Ok,
    /// The disk failed.
    IoError,
    /// Not now: try again later.
    Again,
    /// The disk has no room.
    NoSpace,
    /// The disk does not know the operation.
    Unsupported,
}

/// A run of pages on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    /// First page.
    pub(crate) index: u64,
    /// Pages.
    pub(crate) count: u32,
}

/// A physically contiguous part of a bio's memory.
pub(crate) struct Segment {
    pub(super) page: *mut kernel::bindings::page,
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// A bio that was handed to the driver. Dropping it ends it with an error.
///
/// # Invariants
///
/// Points to a valid bio that this driver owns: it was handed over by the block layer, has not been
/// ended, and nobody else touches its `bi_next` and `bi_iter`. The layout is that of the pointer.
#[repr(transparent)]
pub(crate) struct Bio(NonNull<kernel::bindings::bio>);

// SAFETY: A bio may be worked on and ended by any task and in any context.
unsafe impl Send for Bio {}
// SAFETY: The methods that take `&self` only read what nobody changes.
unsafe impl Sync for Bio {}

impl Bio {
    /// Takes over a bio.
    ///
    /// # Safety
    ///
    /// `bio` must be valid and be handed over to the caller, as by `submit_bio`, with `bi_next`
    /// unused.
    pub(super) unsafe fn from_raw(bio: NonNull<kernel::bindings::bio>) -> Self {
        // INVARIANT: By this function's precondition.
        Self(bio)
    }

    fn raw(&self) -> *mut kernel::bindings::bio {
        self.0.as_ptr()
    }

    pub(super) fn as_ptr(&self) -> *mut kernel::bindings::bio {
        self.raw()
    }

    pub(super) fn into_raw(self) -> NonNull<kernel::bindings::bio> {
        ManuallyDrop::new(self).0
    }

    /// What the bio asks for.
    pub(crate) fn op(&self) -> Op {
        // SAFETY: By the type invariant.
        let opf = unsafe { (*self.raw()).bi_opf };
        match opf & ((1 << kernel::bindings::REQ_OP_BITS) - 1) {
            kernel::bindings::req_op_REQ_OP_READ => Op::Read,
            kernel::bindings::req_op_REQ_OP_WRITE => Op::Write,
            kernel::bindings::req_op_REQ_OP_DISCARD => Op::Discard,
            _ => Op::Other,
        }
    }

    /// Whether this writes a page out of memory. When that fails the page stays in memory, and is
    /// written again another time.
    pub(crate) fn is_swap_out(&self) -> bool {
        self.op() == Op::Write && self.has_flag(kernel::bindings::req_flag_bits___REQ_SWAP)
    }

    /// The pages that the bio names, unless it is not made of whole pages.
    pub(crate) fn pages(&self) -> Option<Pages> {
        // SAFETY: By the type invariant. The structure is packed, so its fields are copied.
        let (sector, bytes) = unsafe {
            let iter = (*self.raw()).bi_iter;
            (iter.bi_sector, iter.bi_size)
        };
        let whole = sector & ((1 << PAGE_SECTORS_SHIFT) - 1) == 0
            && bytes as usize % kernel::page::PAGE_SIZE == 0
            && bytes > 0;
        whole.then_some(Pages {
            index: sector >> PAGE_SECTORS_SHIFT,
            count: bytes >> kernel::page::PAGE_SHIFT,
        })
    }

    /// The first sector that the bio names, and the one after the last.
    pub(crate) fn sectors(&self) -> (u64, u64) {
        // SAFETY: By the type invariant. The structure is packed, so its fields are copied.
        let (sector, bytes) = unsafe {
            let iter = (*self.raw()).bi_iter;
            (iter.bi_sector, iter.bi_size)
        };
        (sector, sector + u64::from(bytes >> 9))
    }

    /// The pages that the bio names when they are counted from the sector `origin` on, unless it is
    /// not made of whole pages.
    pub(crate) fn pages_from(&self, origin: u64) -> Option<Pages> {
        let (from, to) = self.sectors();
        let (from, to) = (from.checked_sub(origin)?, to.checked_sub(origin)?);
        let whole = from % PAGE_SECTORS == 0 && to % PAGE_SECTORS == 0 && from < to;
        whole.then_some(Pages {
            index: from / PAGE_SECTORS,
            count: u32::try_from((to - from) / PAGE_SECTORS).ok()?,
        })
    }

    /// The pages that the bio touches, counted from the sector `origin` on; it lies behind that.
    pub(crate) fn pages_touched(&self, origin: u64) -> Pages {
        let (from, to) = self.sectors();
        let first = from.saturating_sub(origin) / PAGE_SECTORS;
        let end = to.saturating_sub(origin).div_ceil(PAGE_SECTORS);
        Pages {
            index: first,
            count: u32::try_from(end - first).unwrap_or(u32::MAX),
        }
    }

    /// Counts the bio's sectors from `origin` on. Only for a bio that is not submitted to a disk.
    pub(super) fn rebase(&mut self, origin: u64) {
        // SAFETY: By the type invariant.
        unsafe {
            let iter = &raw mut (*self.raw()).bi_iter;
            (*iter).bi_sector = (*iter).bi_sector.wrapping_sub(origin);
        }
    }

    /// Makes the bio one for the disk of `to`, whose sectors it has. In process context.
    pub(super) fn aim(&mut self, to: &Shadow) {
        // SAFETY: By the type invariant; a shadow lasts for as long as a bio has it.
        unsafe { bindings::tmem_bio_aim(self.raw(), to.as_ptr()) }
    }

    /// Whether whoever submits the bio must not be made to wait.
    pub(crate) fn is_nowait(&self) -> bool {
        self.has_flag(kernel::bindings::req_flag_bits___REQ_NOWAIT)
    }

    /// Whether somebody waits for the bio, as far as its flags tell: nobody waits for readahead, nor who
    /// asked not to be made to wait.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.is_nowait() && !self.has_flag(kernel::bindings::req_flag_bits___REQ_RAHEAD)
    }

    fn has_flag(&self, bit: u32) -> bool {
        // SAFETY: By the type invariant.
        unsafe { (*self.raw()).bi_opf & (1 << bit) != 0 }
    }

    /// Whether nothing is transferred but the content of the bio's memory: no checksums, no keys.
    pub(crate) fn is_plain(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::tmem_bio_is_plain(self.raw()) }
    }

    /// Whether the host can read or write the bio's memory page by page: it is made of as many parts
    /// as pages at most, and plain.
    pub(crate) fn is_movable(&self) -> bool {
        let (from, to) = self.sectors();
        let mut parts = 0;
        self.for_each_segment(SEGMENT_BYTES, |_| parts += 1);
        parts <= (to - from).div_ceil(PAGE_SECTORS) && self.is_plain()
    }

    /// Whether the bio's memory is the kernel's own: no program can change it before the bio ends.
    pub(crate) fn is_kernels(&self) -> bool {
        // SAFETY: By the type invariant; the memory of a bio is valid until it ends.
        unsafe { bindings::tmem_bio_is_kernels(self.raw()) }
    }

    /// Pages of memory that the bio carries.
    fn carries(&self) -> u64 {
        match self.op() {
            Op::Read | Op::Write => self.pages().map_or(0, |pages| pages.count.into()),
            Op::Discard | Op::Other => 0,
        }
    }

    /// Splits the bio so that it fits the limits of its disk; the rest is submitted anew. Ends the
    /// bio and gives nothing when that fails. Only while the bio is being submitted.
    pub(super) fn split_to_limits(self) -> Option<Self> {
        // SAFETY: The bio is owned and handed over; the block layer gives back one that fits, or
        // has ended it.
        let bio = unsafe { kernel::bindings::bio_split_to_limits(self.into_raw().as_ptr()) };
        // SAFETY: As above, what comes back is owned by the caller.
        NonNull::new(bio).map(|bio| unsafe { Self::from_raw(bio) })
    }

    /// Submits the bio to the disk that it names: it names one. In process context.
    pub(super) fn submit(self) {
        // SAFETY: The bio is owned and handed over.
        unsafe { kernel::bindings::submit_bio_noacct(self.into_raw().as_ptr()) };
    }

    /// Calls `visit` for each physically contiguous part of the memory, none longer than `longest`.
    pub(super) fn for_each_segment(&self, longest: u32, mut visit: impl FnMut(Segment)) {
        // SAFETY: By the type invariant.
        let mut iter = unsafe { (*self.raw()).bi_iter };
        let mut bvec = kernel::bindings::bio_vec::default();
        // SAFETY: `iter` starts as the bio's own and is advanced by the callee only; `bvec` is
        // valid for writes.
        while unsafe { bindings::tmem_bio_next(self.raw(), &mut iter, &mut bvec) } {
            let mut done = 0;
            while done < bvec.bv_len {
                let len = (bvec.bv_len - done).min(longest);
                visit(Segment {
                    page: bvec.bv_page,
                    offset: bvec.bv_offset + done,
                    len,
                });
                done += len;
            }
        }
    }

    /// Fills `count` pages of the memory from page `first` on with zeros.
    pub(crate) fn zero(&mut self, first: u32, count: u32) {
        // SAFETY: The bio's memory is this driver's to write while it owns a read; the callee
        // stays inside.
        unsafe {
            bindings::tmem_bio_zero(
                self.raw(),
                first << kernel::page::PAGE_SHIFT,
                count << kernel::page::PAGE_SHIFT,
            )
        }
    }

    /// Whether the bio names a block device.
    fn has_device(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { !(*self.raw()).bi_bdev.is_null() }
    }

    /// Starts the accounting of the bio in the disk's statistics, if it is for a disk; gives the time of
    /// it.
    pub(crate) fn start_accounting(&self) -> Started {
        if !self.has_device() {
            return Started::default();
        }
        // SAFETY: By the type invariant.
        Started(unsafe { kernel::bindings::bio_start_io_acct(self.raw()) })
    }

    /// Ends the accounting that was started at `started`.
    pub(crate) fn end_accounting(&self, started: Started) {
        if !self.has_device() {
            return;
        }
        // SAFETY: By the type invariant; the block device outlives its bios.
        unsafe {
            kernel::bindings::bio_end_io_acct_remapped(self.raw(), started.0, (*self.raw()).bi_bdev)
        }
    }

    /// The `count` pages of the memory from page `first` on were read. Says so of those folios of the
    /// swap cache that lie in there as a whole: when another part of the bio fails they are good all
    /// the same, and the swap code would take all of a bio's folios for unread.
    pub(crate) fn mark_read(&self, first: u32, count: u32) {
        // SAFETY: By the type invariant. Whoever reads into a folio of the swap cache holds its lock
        // until the bio ends.
        unsafe {
            bindings::tmem_bio_mark_read(
                self.raw(),
                first << kernel::page::PAGE_SHIFT,
                count << kernel::page::PAGE_SHIFT,
            )
        }
    }

    /// Ends the bio.
    pub(crate) fn end(self, outcome: Outcome) {
        self.end_as(match outcome {
            Outcome::Ok => Status::OK,
            Outcome::IoError => Status(BLK_STS_IOERR),
            Outcome::Again => Status(BLK_STS_TRANSPORT),
            Outcome::NoSpace => Status(BLK_STS_NOSPC),
            Outcome::Unsupported => Status(BLK_STS_NOTSUPP),
        });
    }

    /// Ends the bio as another one ended. An error stays: parts that were cut off this bio, by
    /// whomever, leave theirs here, and may have done so already.
    pub(crate) fn end_as(self, status: Status) {
        let bio = self.into_raw().as_ptr();
        // SAFETY: The bio is owned, and given up here.
        unsafe {
            if !status.is_ok() {
                (*bio).bi_status = status.0;
            }
            kernel::bindings::bio_endio(bio);
        }
    }
}

impl Drop for Bio {
    fn drop(&mut self) {
        // INVARIANT: The bio moves to a value that is ended below; `self` is not used again.
        Self(self.0).end(Outcome::IoError);
    }
}

/// How a bio ended, as the block layer says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(u8);

impl Status {
    /// Done.
    pub(crate) const OK: Self = Self(kernel::bindings::BLK_STS_OK as u8);
    /// The disk can't do it as it was asked for.
    pub(crate) const INVALID: Self = Self(BLK_STS_INVAL);
    /// Whoever must not wait would have to.
    pub(crate) const AGAIN: Self = Self(BLK_STS_AGAIN);

    pub(super) fn from_raw(status: u8) -> Self {
        Self(status)
    }

    /// Whether it ended well.
    pub(crate) fn is_ok(self) -> bool {
        self == Self::OK
    }

    /// Whether it ended with [`Outcome::Again`].
    pub(crate) fn is_again(self) -> bool {
        self == Self(BLK_STS_TRANSPORT)
    }

    /// Whether it ended with [`Outcome::NoSpace`].
    pub(crate) fn is_no_space(self) -> bool {
        self == Self(BLK_STS_NOSPC)
    }
}

/// When the accounting of a bio started.
#[derive(Clone, Copy, Default)]
pub(crate) struct Started(c_ulong);

// Values of `blk_status_t`, which are casts in C and so have no bindings.
const BLK_STS_NOTSUPP: u8 = 1;
const BLK_STS_NOSPC: u8 = 3;
const BLK_STS_TRANSPORT: u8 = 4;
const BLK_STS_IOERR: u8 = 10;
const BLK_STS_AGAIN: u8 = 12;
const BLK_STS_INVAL: u8 = 19;

/// A queue of bios, linked through themselves. Dropping it ends them with an error.
///
/// # Invariants
///
/// `head` is the first of a chain linked by `bi_next`, whose last is `tail` and whose bios the list
/// owns. `len` is its length, and `pages` is what they carry.
pub(crate) struct BioList {
    head: Option<Bio>,
    tail: Option<NonNull<kernel::bindings::bio>>,
    len: usize,
    pages: u64,
}

// SAFETY: `tail` points to a bio that the list owns, and bios are `Send`.
unsafe impl Send for BioList {}
// SAFETY: Nothing is changed through `&self`.
unsafe impl Sync for BioList {}

impl BioList {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        Self {
            head: None,
            tail: None,
            len: 0,
            pages: 0,
        }
    }

    /// Bios in the list.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Pages of memory that the bios carry.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// Whether the list has no bio.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// The first bio.
    pub(crate) fn front(&self) -> Option<&Bio> {
        self.head.as_ref()
    }

    /// Appends a bio.
    pub(crate) fn push(&mut self, bio: Bio) {
        let raw = bio.0;
        self.pages += bio.carries();
        // SAFETY: The bio is owned.
        unsafe { (*raw.as_ptr()).bi_next = core::ptr::null_mut() };
        // INVARIANT: The bio becomes the last of the chain.
        match self.tail {
            None => self.head = Some(bio),
            // SAFETY: By the type invariant `tail` is owned by the list. The new bio is owned by
            // the chain from here on.
            Some(tail) => unsafe { (*tail.as_ptr()).bi_next = bio.into_raw().as_ptr() },
        }
        self.tail = Some(raw);
        self.len += 1;
    }

    /// Takes the first bio.
    pub(crate) fn pop(&mut self) -> Option<Bio> {
        let bio = self.head.take()?;
        // SAFETY: The bio is owned, and so is what follows it in the chain.
        self.head = unsafe {
            let next = NonNull::new((*bio.raw()).bi_next);
            (*bio.raw()).bi_next = core::ptr::null_mut();
            next.map(|next| Bio::from_raw(next))
        };
        if self.head.is_none() {
            self.tail = None;
        }
        self.len -= 1;
        self.pages -= bio.carries();
        Some(bio)
    }

    /// Appends all bios of `other`.
    pub(crate) fn append(&mut self, mut other: Self) {
        let Some(first) = other.head.take() else {
            return;
        };
        match self.tail {
            None => self.head = Some(first),
            // SAFETY: As in `push`; `other` has given up the chain.
            Some(tail) => unsafe { (*tail.as_ptr()).bi_next = first.into_raw().as_ptr() },
        }
        self.tail = other.tail.take();
        self.len += other.len;
        self.pages += other.pages;
        (other.len, other.pages) = (0, 0);
    }

    /// The bios in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bio> {
        core::iter::successors(self.head.as_ref(), |bio| {
            // SAFETY: `bi_next` of an owned bio in the list is null or points to the next one,
            // which is what `Option<Bio>` is, because `Bio` is a transparent `NonNull`.
            unsafe { &*addr_of!((*bio.raw()).bi_next).cast::<Option<Bio>>() }.as_ref()
        })
    }
}

impl Drop for BioList {
    fn drop(&mut self) {
        while let Some(bio) = self.pop() {
            bio.end(Outcome::IoError);
        }
    }
}
