// SPDX-License-Identifier: GPL-2.0

//! Cutting bios.
//!
//! The front of a bio becomes a bio of its own, which the rest waits for. Both come from a reserve,
//! so that they can be had when there is no memory. For that to work, whoever cuts a bio passes its
//! front on before it asks for anything else, as device mapper does: the rest goes to the end of what
//! the task has to submit, so the front is under way by the time that the rest is looked at.

use super::{
    bindings,
    bio::{
        Bio,
        Status, //
    },
};
use core::ptr::NonNull;
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    types::Opaque, //
};

/// Fronts that can be had at any one time without memory.
const RESERVE: c_uint = 2;

/// Where fronts come from. Each place that cuts bios has its own: whoever waits for a front must not
/// have one of the same reserve that is not under way.
#[pin_data(PinnedDrop)]
pub(crate) struct Splits {
    #[pin]
    set: Opaque<kernel::bindings::bio_set>,
}

// SAFETY: Bios may be allocated and freed by any task and in any context.
unsafe impl Send for Splits {}
// SAFETY: As above.
unsafe impl Sync for Splits {}

impl Splits {
    /// Makes the reserve.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// All fronts must have ended before it is dropped: they end without being seen here.
    pub(super) unsafe fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            set <- Opaque::try_ffi_init(|set: *mut kernel::bindings::bio_set| {
                // SAFETY: `set` is valid for writes, stays where it is, and starts as zeros as the
                // callee wants it.
                to_result(unsafe {
                    set.write_bytes(0, 1);
                    kernel::bindings::bioset_init(set, RESERVE, 0, 0)
                })
            }),
        }? Error)
    }

    /// The reserve of the module's own disk.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn for_disk() -> impl PinInit<Self, Error> {
        // SAFETY: Fronts are of bios of the disk, which has the module until it is closed; and it is
        // not closed before all of its bios have ended.
        unsafe { Self::new() }
    }

    /// Cuts a bio before the sector `at`, which lies within it. Gives its front, and the rest. Ends
    /// the bio and gives nothing when it can't be cut. In process context.
    pub(crate) fn cut(&self, bio: Bio, at: u64) -> Option<(Bio, Rest)> {
        let (from, to) = bio.sectors();
        if at <= from || at >= to {
            return Some((bio, Rest(None)));
        }
        let gfp = if bio.is_nowait() {
            kernel::bindings::GFP_NOWAIT
        } else {
            bindings::TMEM_GFP_NOIO
        };
        // SAFETY: The bio is owned, and longer; the set is initialised. What comes back is a valid
        // bio that nobody else has, or an error.
        let front = unsafe {
            kernel::bindings::bio_split(bio.as_ptr(), (at - from) as c_int, gfp, self.set.get())
        };
        let front = match from_err_ptr(front).map(NonNull::new) {
            Ok(Some(front)) => front,
            Err(err) if err != ENOMEM => {
                // It must not be cut: an atomic write.
                bio.end_as(Status::INVALID);
                return None;
            }
            _ => {
                bio.end_as(Status::AGAIN);
                return None;
            }
        };
        // SAFETY: Both are owned, and the front was just made, with no other end.
        unsafe { kernel::bindings::bio_chain(front.as_ptr(), bio.as_ptr()) };
        // SAFETY: As above.
        Some((unsafe { Bio::from_raw(front) }, Rest(Some(bio))))
    }
}

#[pinned_drop]
impl PinnedDrop for Splits {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The set was initialised, and by the precondition of `new` all fronts have ended.
        unsafe { kernel::bindings::bioset_exit(self.set.get()) };
    }
}

/// What is left of a bio whose front was cut off. It is submitted when this is dropped, which is
/// after the front was passed on.
#[must_use = "the rest is submitted when this is dropped: after its front"]
pub(crate) struct Rest(Option<Bio>);

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some(bio) = self.0.take() {
            bio.submit();
        }
    }
}
