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
    blockdev::{
        Shadow,
        Use, //
    },
    content::Content,
    staging::Staging, //
};
use core::{
    marker::PhantomData,
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ptr::NonNull, //
};
use kernel::{
    container_of,
    error::to_result,
    page::Page,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    },
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
///
/// They outlive their bios: should there be any when they are dropped, they stay.
pub(crate) struct Clones<P: Purpose> {
    set: ManuallyDrop<Pin<KBox<Set>>>,
    _purposes: PhantomData<P>,
}

/// See [`Clones`].
#[pin_data(PinnedDrop)]
struct Set {
    #[pin]
    bios: Opaque<kernel::bindings::bio_set>,
    /// Those that have not gone back.
    under_way: Atomic<usize>,
}

// SAFETY: Bios may be allocated and freed by any task and in any context.
unsafe impl Send for Set {}
// SAFETY: As above.
unsafe impl Sync for Set {}

/// What is before each bio.
struct Slot<P> {
    purpose: P,
    /// Of the shadow that the bio has.
    shadow: Option<Use>,
    /// What the bio carries.
    staging: Option<Arc<Staging>>,
}

impl<P: Purpose> Clones<P> {
    /// Bytes before each bio, for its slot.
    const PAD: usize = {
        assert!(align_of::<Slot<P>>() <= 8);
        size_of::<Slot<P>>().next_multiple_of(8)
    };

    /// Makes the reserve: bios that can be made at any one time without memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(reserve: u32) -> Result<Self> {
        let set = try_pin_init!(Set {
            bios <- Opaque::try_ffi_init(move |set: *mut kernel::bindings::bio_set| {
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
            under_way: Atomic::new(0),
        }? Error);
        Ok(Self {
            set: ManuallyDrop::new(KBox::pin_init(set, GFP_KERNEL)?),
            _purposes: PhantomData,
        })
    }

    fn bios(&self) -> *mut kernel::bindings::bio_set {
        self.set.bios.get()
    }

    /// Has the disk of `to` do what `original` asks for: submits a clone. Ends `original` when there is
    /// no memory and it must not wait for any. In process context; only one for each bio that is being
    /// submitted, or else the reserve does not help.
    pub(crate) fn pass_on(&self, original: Bio, to: &Shadow, purpose: impl FnOnce(Bio) -> P) {
        if let Some(clone) = self.clone_of(original, Some(to), purpose) {
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
        let mut carrier = self.clone_of(original, None, purpose)?;
        carrier.rebase(origin);
        Some(carrier)
    }

    fn clone_of(
        &self,
        original: Bio,
        to: Option<&Shadow>,
        purpose: impl FnOnce(Bio) -> P,
    ) -> Option<Bio> {
        let bdev = to.map_or(core::ptr::null_mut(), Shadow::as_ptr);
        let gfp = if original.is_nowait() {
            kernel::bindings::GFP_NOWAIT
        } else {
            bindings::TMEM_GFP_NOIO
        };
        // SAFETY: The original is owned, and its purpose keeps it until the clone has ended. The clone
        // has no block device, or keeps a use of the shadow.
        let clone =
            unsafe { kernel::bindings::bio_alloc_clone(bdev, original.as_ptr(), gfp, self.bios()) };
        let Some(clone) = NonNull::new(clone) else {
            original.end_as(Status::AGAIN);
            return None;
        };
        // SAFETY: Both are valid and owned.
        unsafe { bindings::tmem_bio_as_checked(clone.as_ptr(), original.as_ptr()) };
        // SAFETY: The clone was just made, from this set.
        Some(unsafe { self.dedicate(clone, purpose(original), to, None) })
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
        let mut bio = self.over_for(copies, Op::Write, pages, Some(to), purpose)?;
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
        self.over_for(copies, op, pages, None, purpose)
    }

    fn over_for(
        &self,
        copies: KBox<Copies>,
        op: Op,
        pages: Pages,
        to: Option<&Shadow>,
        purpose: impl FnOnce(KBox<Copies>) -> P,
    ) -> Result<Bio, KBox<Copies>> {
        if pages.count as usize > copies.pages.len() {
            return Err(copies);
        }
        let Some(bio) = self.empty(op, pages, pages.count as c_ushort) else {
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
        // SAFETY: The bio was just made, from this set.
        Ok(unsafe { self.dedicate(bio, purpose(copies), to, None) })
    }

    /// A bio without memory that has room for `parts` of it, and is for `pages`, counted from sector 0 on.
    /// None when there is no memory. In any context.
    fn empty(
        &self,
        op: Op,
        pages: Pages,
        parts: c_ushort,
    ) -> Option<NonNull<kernel::bindings::bio>> {
        let op = match op {
            Op::Read => kernel::bindings::req_op_REQ_OP_READ,
            _ => kernel::bindings::req_op_REQ_OP_WRITE,
        };
        // Without a block device no cgroup is looked for, which is not for any context.
        // SAFETY: The set is initialised.
        let bio = NonNull::new(unsafe {
            kernel::bindings::bio_alloc_bioset(
                core::ptr::null_mut(),
                parts,
                op,
                kernel::bindings::GFP_NOWAIT | kernel::bindings::__GFP_NOWARN,
                self.bios(),
            )
        })?;
        // SAFETY: The bio was just made.
        unsafe { (*bio.as_ptr()).bi_iter.bi_sector = pages.index * super::bio::PAGE_SECTORS };
        Some(bio)
    }

    /// A bio that moves pages between the first of `staging` and `pages` of something that is no block device,
    /// counted from sector 0 on. None when there is no memory, or no such pages. In any context.
    pub(crate) fn over_staging(
        &self,
        staging: &Arc<Staging>,
        op: Op,
        pages: Pages,
        purpose: P,
    ) -> Option<Bio> {
        let memory = staging.at(0, pages.count)?;
        let bio = self.empty(op, pages, 1)?;
        // SAFETY: The bio was just made with room for one part, and its slot keeps the memory, which
        // is of kmalloc(), until it has ended.
        unsafe {
            kernel::bindings::bio_add_virt_nofail(
                bio.as_ptr(),
                memory.as_ptr().cast(),
                pages.count << kernel::page::PAGE_SHIFT,
            );
        }
        // SAFETY: The bio was just made, from this set.
        Some(unsafe { self.dedicate(bio, purpose, None, Some(staging.clone())) })
    }

    /// Gives a bio its purpose, a use of the shadow that it is for, and what it carries to keep.
    ///
    /// # Safety
    ///
    /// `bio` must have been made from this set, and have no purpose yet.
    unsafe fn dedicate(
        &self,
        bio: NonNull<kernel::bindings::bio>,
        purpose: P,
        to: Option<&Shadow>,
        staging: Option<Arc<Staging>>,
    ) -> Bio {
        self.set.under_way.fetch_add(1, Relaxed);
        let slot = Slot {
            purpose,
            shadow: to.map(Shadow::enter),
            staging,
        };
        // SAFETY: By this function's precondition the room is there.
        unsafe {
            Self::slot(bio.as_ptr()).write(MaybeUninit::new(slot));
            (*bio.as_ptr()).bi_end_io = Some(Self::ended);
            Bio::from_raw(bio)
        }
    }

    /// Where the slot of a bio is.
    ///
    /// # Safety
    ///
    /// `bio` must have been made from a set of this type.
    unsafe fn slot(bio: *mut kernel::bindings::bio) -> *mut MaybeUninit<Slot<P>> {
        // SAFETY: The set was made with this many bytes before each bio; they are aligned because
        // the bio is, and their number is a multiple of 8.
        unsafe { bio.byte_sub(Self::PAD).cast() }
    }

    /// Whether a bio was made here.
    pub(crate) fn made(&self, bio: &Bio) -> bool {
        // SAFETY: The bio is owned by who lends it.
        unsafe { (*bio.as_ptr()).bi_pool == self.bios() }
    }

    /// The purpose of a bio, if it has one.
    pub(crate) fn purpose<'a>(&self, bio: &'a Bio) -> Option<&'a P> {
        if !self.made(bio) {
            return None;
        }
        // SAFETY: The bio is from this set, and those are never handed out without a purpose, which
        // stays until they end.
        let slot = unsafe { (*Self::slot(bio.as_ptr())).assume_init_ref() };
        Some(&slot.purpose)
    }

    unsafe extern "C" fn ended(bio: *mut kernel::bindings::bio) {
        // SAFETY: Only bios from a set of this type have this callback, with a slot; it is called once,
        // and nobody uses the bio any more. The set stays until the bio is counted off.
        let (slot, status) = unsafe {
            let slot = Self::slot(bio).read().assume_init();
            let status = Status::from_raw((*bio).bi_status);
            let set = container_of!(Opaque::cast_from((*bio).bi_pool), Set, bios);
            kernel::bindings::bio_put(bio);
            (*set).under_way.fetch_sub(1, Full);
            (slot, status)
        };
        let Slot {
            purpose,
            shadow,
            staging,
        } = slot;
        drop(shadow);
        drop(staging);
        purpose.ended(status);
    }
}

impl<P: Purpose> Drop for Clones<P> {
    fn drop(&mut self) {
        if self.set.under_way.load(Acquire) != 0 {
            pr_err!("bios are under way whose reserve goes: this is a bug\n");
            return;
        }
        // SAFETY: The set is not used again.
        unsafe { ManuallyDrop::drop(&mut self.set) };
    }
}

#[pinned_drop]
impl PinnedDrop for Set {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The set was initialised, and no bio of it is under way: see above.
        unsafe { kernel::bindings::bioset_exit(self.bios.get()) };
    }
}

/// Pages to copy to.
pub(crate) struct Copies {
    pages: KVec<Page>,
    next: Option<KBox<Copies>>,
}

impl Copies {
    /// Pages of those that are written back.
    pub(crate) const PAGES: usize = 4;

    /// Allocates `count` pages.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(count: usize) -> Result<KBox<Self>> {
        let mut pages = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            pages.push(Page::alloc_page(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(KBox::new(Self { pages, next: None }, GFP_KERNEL)?)
    }

    /// Copies what is in a page to the first of them.
    pub(crate) fn fill(&mut self, content: Content<'_>) {
        if let Some(page) = self.pages.first() {
            content.copy_to(page);
        }
    }

    /// Copies the memory of a bio to the first of them, from the byte `offset` on.
    pub(crate) fn copy_from(&mut self, bio: &Bio, offset: u32) {
        if let Some(page) = self.pages.first() {
            // SAFETY: Both are valid; the callee stays inside of the bio's memory.
            unsafe { bindings::tmem_bio_copy_page(page.as_ptr(), bio.as_ptr(), offset) }
        }
    }

    /// What is in the first of them.
    pub(crate) fn content(&self) -> Option<Content<'_>> {
        let page = self.pages.first()?;
        // SAFETY: The page is owned for as long as it is borrowed. The kernels that have this module
        // have all memory mapped.
        Some(unsafe { Content::from_raw(bindings::tmem_page_address(page.as_ptr())) })
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
