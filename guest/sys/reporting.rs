// SPDX-License-Identifier: GPL-2.0

//! Free page reporting: the kernel's own machinery tells of free memory, and keeps it free until it
//! was told of.

use super::bindings;
use core::marker::{
    PhantomData,
    PhantomPinned, //
};
use kernel::{
    container_of,
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// Binary logarithm of the pages in the largest block that the kernel reports.
pub(crate) fn largest_order() -> u32 {
    // SAFETY: It returns a constant.
    unsafe { bindings::tmem_page_reporting_largest_order() }
}

/// A range of physical memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// In bytes.
    pub(crate) address: u64,
    /// In bytes.
    pub(crate) bytes: u64,
}

/// What is told of free memory.
pub(crate) trait Reporter: Send + Sync + 'static {
    /// Takes ranges of free pages, which nobody uses before this returns. Their content need not be
    /// kept. In process context, one call at a time.
    ///
    /// # Errors
    ///
    /// Any: the kernel tells of them again, when more memory becomes free.
    fn report(&self, ranges: Ranges<'_>) -> Result;
}

/// Ranges of free memory. Cannot outlive the call that they are given to.
///
/// # Invariants
///
/// For `'a`, `next` is an entry that is set of a valid scatterlist, and `left` of them are left,
/// unless that is 0.
pub(crate) struct Ranges<'a> {
    next: *mut kernel::bindings::scatterlist,
    left: u32,
    _list: PhantomData<&'a kernel::bindings::scatterlist>,
}

impl Iterator for Ranges<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: By the type invariant the entry is set; the one after it is, too, if it is not the
        // last.
        let (range, next) = unsafe {
            let range = Range {
                address: bindings::tmem_sg_phys(self.next),
                bytes: bindings::tmem_sg_len(self.next).into(),
            };
            (range, bindings::tmem_sg_next(self.next))
        };
        if next.is_null() {
            self.left = 0;
        }
        // INVARIANT: It is the next entry, and one less is left.
        self.next = next;
        Some(range)
    }
}

/// A registered reporter. Dropping it waits for a report that is under way.
///
/// # Invariants
///
/// `info` is registered.
#[pin_data(PinnedDrop)]
pub(crate) struct Reporting<R: Reporter> {
    #[pin]
    info: Opaque<bindings::page_reporting_dev_info>,
    reporter: Arc<R>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The kernel's registration is protected by a mutex of its own.
unsafe impl<R: Reporter> Send for Reporting<R> {}
// SAFETY: Nothing is done through `&self` but calls of the reporter, which is `Sync`.
unsafe impl<R: Reporter> Sync for Reporting<R> {}

impl<R: Reporter> Reporting<R> {
    /// Registers `reporter` for free memory in blocks of 2^`order` pages at least, unless the
    /// parameter `page_reporting_order` says otherwise, with at most `capacity` ranges at a time.
    ///
    /// # Errors
    ///
    /// `EBUSY` when another driver is registered, `EOPNOTSUPP` when the kernel can't.
    pub(crate) fn new(reporter: Arc<R>, order: u32, capacity: u32) -> impl PinInit<Self, Error> {
        // In this order: reports may come as soon as it is registered.
        try_pin_init!(Self {
            reporter,
            _pin: PhantomPinned,
            info <- Opaque::try_ffi_init(move |slot: *mut bindings::page_reporting_dev_info| {
                let info = bindings::page_reporting_dev_info {
                    report: Some(Self::report),
                    order,
                    ..Default::default()
                };
                // SAFETY: The slot may be written to.
                unsafe { slot.write(info) };
                // SAFETY: It is complete and pinned, and unregistered before it is freed.
                to_result(unsafe { bindings::tmem_page_reporting_register(slot, capacity) })
            }),
        }? Error)
    }

    /// # Safety
    ///
    /// `info` is that of a `Reporting<R>`, and `list` has `count` entries that are set.
    unsafe extern "C" fn report(
        info: *mut bindings::page_reporting_dev_info,
        list: *mut kernel::bindings::scatterlist,
        count: c_uint,
    ) -> c_int {
        // SAFETY: By this function's precondition; dropping it waits until nobody is in here.
        let this = unsafe { &*container_of!(Opaque::cast_from(info), Self, info) };
        // INVARIANT: By this function's precondition, until it returns; `report` takes ranges with
        // any lifetime, so it cannot keep them.
        let ranges = Ranges {
            next: list,
            left: count,
            _list: PhantomData,
        };
        match this.reporter.report(ranges) {
            Ok(()) => 0,
            Err(err) => err.to_errno(),
        }
    }
}

#[pinned_drop]
impl<R: Reporter> PinnedDrop for Reporting<R> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: It is registered by the type invariant.
        unsafe { bindings::tmem_page_reporting_unregister(self.info.get()) };
    }
}
