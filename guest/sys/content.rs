// SPDX-License-Identifier: GPL-2.0

//! What is in a page of memory that is not this module's.

use super::{
    bindings,
    bio::Bio, //
};
use core::marker::PhantomData;
use kernel::{
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
};

/// The content of a page. Others may change it meanwhile.
///
/// # Invariants
///
/// Points to a page that is mapped, and valid for reads, for as long as `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Content<'a>(*const u64, PhantomData<&'a u64>);

impl<'a> Content<'a> {
    /// The content at an address.
    ///
    /// # Safety
    ///
    /// A page must be there, mapped and valid for reads for as long as `'a`.
    pub(super) unsafe fn from_raw(content: *const c_void) -> Self {
        // INVARIANT: By this function's precondition. Pages are aligned.
        Self(content.cast(), PhantomData)
    }

    /// Its words of 64 bits, `N` at a time, which divides a page.
    pub(crate) fn words<const N: usize>(self) -> impl Iterator<Item = [u64; N]> + 'a {
        (0..PAGE_SIZE / 8 / N).map(move |at| {
            core::array::from_fn(|i| {
                // SAFETY: By the type invariant the words are there. They are read once each, whatever
                // others do to them meanwhile.
                unsafe { self.0.add(at * N + i).read_volatile() }
            })
        })
    }

    /// Copies it to a page.
    pub(super) fn copy_to(self, page: &Page) {
        // SAFETY: By the type invariant; the page is owned by who lends it.
        unsafe { bindings::tmem_copy_page(page.as_ptr(), self.0.cast()) }
    }
}

impl Bio {
    /// Calls `visit` for each page of the bio's memory that lies in one frame and fills it, with its
    /// place in the bio, the frame, and what is in there. In any context.
    pub(crate) fn for_each_page<F: FnMut(u32, u64, Content<'_>)>(&self, mut visit: F) {
        unsafe extern "C" fn one<F: FnMut(u32, u64, Content<'_>)>(
            data: *mut c_void,
            at: c_uint,
            frame: c_ulong,
            content: *const c_void,
        ) {
            // SAFETY: `data` is what the callee was handed below, for as long as it runs. It has
            // mapped a page at `content` until this returns.
            unsafe { (*data.cast::<F>())(at, frame as u64, Content::from_raw(content)) }
        }
        // SAFETY: The bio is owned by who lends it, and `visit` is what `one` expects.
        unsafe {
            bindings::tmem_bio_each_page(self.as_ptr(), Some(one::<F>), (&raw mut visit).cast())
        }
    }
}

/// So many random numbers that nobody can guess.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn random(count: usize) -> Result<KVVec<u64>> {
    let mut numbers = KVVec::from_elem(0u64, count, GFP_KERNEL)?;
    let bytes = size_of_val::<[u64]>(&numbers);
    // SAFETY: The vector has as many bytes, and any bytes are numbers.
    unsafe { bindings::tmem_random(numbers.as_mut_ptr().cast(), bytes) };
    Ok(numbers)
}
