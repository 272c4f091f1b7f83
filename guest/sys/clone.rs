// SPDX-License-Identifier: GPL-2.0

//! Bios of the module's own: clones of others, and such that carry copies of pages. Each has a
//! purpose, which learns how it ended.

use super::{
    bindings,
    bio::{
        Bio,
        Op,
        Pages,
        Status, //
    },
    blockdev::Shadow,
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    page::Page,
    prelude::*,
    types::Opaque, //
};

/// What a bio is for.
pub(crate) trait Purpose: Sized + Send + 'static {
    /// The bio has ended. In any context.
    fn ended(self, status: Status);
}

/// Where bios with purposes come from. Some can be made when there is no memory, too: but only if
/// none of them waits, on its way, for another one from here. So each disk has its own for those that
/// are passed on to it. One that is in a task's plug is on its way: see `plug`.
#[pin_data(PinnedDrop)]
pub(crate) struct Clones<P: Purpose> {
    #[pin]
    set: Opaque<kernel::bindings::bio_set>,
    _purposes: PhantomData<P>,
}

// SAFETY: Bios may be allocated and freed by any task and in any context.
unsafe impl<P: Purpose> Send for Clones<P> {}
// SAFETY: As above.
unsafe impl<P: Purpose> Sync for Clones<P> {}

impl<P: Purpose> Clones<P> {
    /// Bytes before each bio, for its purpose.
    const PAD: usize = {
        assert!(align_of::<P>() <= 8);
        size_of::<P>().next_multiple_of(8)
    };

    /// Makes the reserve: bios that can be made at any one time without memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(reserve: u32) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            set <- Opaque::try_ffi_init(move |set: *mut kernel::bindings::bio_set| {
                // SAFETY: `set` is valid for writes, stays where it is, and starts as zeros as the
                // callee wants it.
                to_result(unsafe {
                    set.write_bytes(0, 1);
                    kernel::bindings::bioset_init(
                        set,
                        reserve,
                        Self::PAD as c_uint,
                        kernel::bindings::BIOSET_NEED_BVECS as c_int,
                    )
                })
            }),
            _purposes: PhantomData,
        }? Error)
    }

    /// Has the disk of `to` do what `original` asks for: submits a clone. Ends `original` when there is
    /// no memory and it must not wait for any. In process context; only one for each bio that is being
    /// submitted, or else the reserve does not help.
    pub(crate) fn pass_on(&self, original: Bio, to: &Shadow, purpose: impl FnOnce(Bio) -> P) {
        if let Some(clone) = self.clone_of(original, to.as_ptr(), purpose) {
            clone.submit();
        }
    }

    /// A bio with the memory of `original` that is for no block device, and counts its sectors from
    /// `origin` on. Ends `original` when there is no memory and it must not wait for any. In process
    /// context.
    pub(crate) fn carrier_of(
        &self,
        original: Bio,
        origin: u64,
        purpose: impl FnOnce(Bio) -> P,
    ) -> Option<Bio> {
        let mut carrier = self.clone_of(original, core::ptr::null_mut(), purpose)?;
        carrier.rebase(origin);
        Some(carrier)
    }

    fn clone_of(
        &self,
        original: Bio,
        bdev: *mut kernel::bindings::block_device,
        purpose: impl FnOnce(Bio) -> P,
    ) -> Option<Bio> {
        let gfp = if original.is_nowait() {
            kernel::bindings::GFP_NOWAIT
        } else {
            bindings::TMEM_GFP_NOIO
        };
        // SAFETY: The original is owned, and its purpose keeps it until the clone has ended. `bdev` is
        // null or a shadow, which lasts for as long as a bio has it.
        let clone = unsafe {
            kernel::bindings::bio_alloc_clone(bdev, original.as_ptr(), gfp, self.set.get())
        };
        let Some(clone) = NonNull::new(clone) else {
            original.end_as(Status::AGAIN);
            return None;
        };
        // SAFETY: Both are valid and owned.
        unsafe { bindings::tmem_bio_as_checked(clone.as_ptr(), original.as_ptr()) };
        // SAFETY: The clone was just made, from this set.
        Some(unsafe { Self::dedicate(clone, purpose(original)) })
    }

    /// Writes `copies` to `pages` of the disk of `to`, counted from the sector `origin` of that on. When
    /// there is no memory, or `copies` are fewer than `pages`, they come back. In process context.
    pub(crate) fn write(
        &self,
        copies: KBox<Copies>,
        pages: Pages,
        to: &Shadow,
        origin: u64,
        purpose: impl FnOnce(KBox<Copies>) -> P,
    ) -> Result<(), KBox<Copies>> {
        let mut bio = self.over(copies, Op::Write, pages, purpose)?;
        bio.rebase(0u64.wrapping_sub(origin));
        bio.aim(to);
        bio.submit();
        Ok(())
    }

    /// A bio that moves pages between `copies` and `pages` of something that is no block device, counted
    /// from sector 0 on. When there is no memory, or `copies` are fewer than `pages`, they come back. In
    /// any context.
    pub(crate) fn over(
        &self,
        copies: KBox<Copies>,
        op: Op,
        pages: Pages,
        purpose: impl FnOnce(KBox<Copies>) -> P,
    ) -> Result<Bio, KBox<Copies>> {
        if pages.count as usize > copies.pages.len() {
            return Err(copies);
        }
        let op = match op {
            Op::Read => kernel::bindings::req_op_REQ_OP_READ,
            _ => kernel::bindings::req_op_REQ_OP_WRITE,
        };
        // Without a block device no cgroup is looked for, which is not for any context.
        // SAFETY: The set is initialised.
        let bio = unsafe {
            kernel::bindings::bio_alloc_bioset(
                core::ptr::null_mut(),
                Copies::PAGES as c_ushort,
                op,
                kernel::bindings::GFP_NOWAIT | kernel::bindings::__GFP_NOWARN,
                self.set.get(),
            )
        };
        let Some(bio) = NonNull::new(bio) else {
            return Err(copies);
        };
        for page in copies.pages.iter().take(pages.count as usize) {
            // SAFETY: The bio was just made with room for as many pages, and its purpose keeps
            // them until it has ended.
            unsafe {
                kernel::bindings::__bio_add_page(
                    bio.as_ptr(),
                    page.as_ptr(),
                    kernel::page::PAGE_SIZE as c_uint,
                    0,
                );
            }
        }
        // SAFETY: As above.
        unsafe { (*bio.as_ptr()).bi_iter.bi_sector = pages.index * super::bio::PAGE_SECTORS };
        // SAFETY: The bio was just made, from this set.
        Ok(unsafe { Self::dedicate(bio, purpose(copies)) })
    }

    /// Gives a bio its purpose.
    ///
    /// # Safety
    ///
    /// `bio` must have been made from a set of this type, and have none yet.
    unsafe fn dedicate(bio: NonNull<kernel::bindings::bio>, purpose: P) -> Bio {
        // SAFETY: By this function's precondition the room is there.
        unsafe {
            Self::slot(bio.as_ptr()).write(MaybeUninit::new(purpose));
            (*bio.as_ptr()).bi_end_io = Some(Self::ended);
            Bio::from_raw(bio)
        }
    }

    /// Where the purpose of a bio is.
    ///
    /// # Safety
    ///
    /// `bio` must have been made from a set of this type.
    unsafe fn slot(bio: *mut kernel::bindings::bio) -> *mut MaybeUninit<P> {
        // SAFETY: The set was made with this many bytes before each bio; they are aligned because
        // the bio is, and their number is a multiple of 8.
        unsafe { bio.byte_sub(Self::PAD).cast() }
    }

    /// Whether a bio was made here.
    pub(crate) fn made(&self, bio: &Bio) -> bool {
        // SAFETY: The bio is owned by who lends it.
        unsafe { (*bio.as_ptr()).bi_pool == self.set.get() }
    }

    /// The purpose of a bio, if it has one.
    pub(crate) fn purpose<'a>(&self, bio: &'a Bio) -> Option<&'a P> {
        if !self.made(bio) {
            return None;
        }
        // SAFETY: The bio is from this set, and those are never handed out without a purpose, which
        // stays until they end.
        Some(unsafe { (*Self::slot(bio.as_ptr())).assume_init_ref() })
    }

    unsafe extern "C" fn ended(bio: *mut kernel::bindings::bio) {
        // SAFETY: Only bios from a set of this type have this callback, with a purpose; it is
        // called once, and nobody uses the bio any more.
        let (purpose, status) = unsafe {
            let purpose = Self::slot(bio).read().assume_init();
            let status = Status::from_raw((*bio).bi_status);
            kernel::bindings::bio_put(bio);
            (purpose, status)
        };
        purpose.ended(status);
    }
}

#[pinned_drop]
impl<P: Purpose> PinnedDrop for Clones<P> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The set was initialised. Purposes keep what owns the set, so no bio is left.
        unsafe { kernel::bindings::bioset_exit(self.set.get()) };
    }
}

/// Pages to copy to.
pub(crate) struct Copies {
    pages: KVec<Page>,
    next: Option<KBox<Copies>>,
}

impl Copies {
    /// Pages in each: few, because a read of one page takes all of them.
    pub(crate) const PAGES: usize = 4;

    /// Allocates the pages.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<KBox<Self>> {
        let mut pages = KVec::with_capacity(Self::PAGES, GFP_KERNEL)?;
        for _ in 0..Self::PAGES {
            pages.push(Page::alloc_page(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(KBox::new(Self { pages, next: None }, GFP_KERNEL)?)
    }
}

/// Copies that are not in use, last in, first out.
pub(crate) struct CopiesStack(Option<KBox<Copies>>);

impl CopiesStack {
    /// Without copies.
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Puts some on top.
    pub(crate) fn push(&mut self, mut copies: KBox<Copies>) {
        copies.next = self.0.take();
        self.0 = Some(copies);
    }

    /// Takes those on top.
    pub(crate) fn pop(&mut self) -> Option<KBox<Copies>> {
        let mut copies = self.0.take()?;
        self.0 = copies.next.take();
        Some(copies)
    }
}

impl Drop for CopiesStack {
    fn drop(&mut self) {
        // One by one: dropping the first would recurse.
        while self.pop().is_some() {}
    }
}
