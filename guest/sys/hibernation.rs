// SPDX-License-Identifier: GPL-2.0

//! Hibernation: who has state that would not be in the image is asked before.

use super::bindings;
use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc, //
};

/// What is asked before the system hibernates.
pub(crate) trait Guard: Send + Sync + 'static {
    /// Whether the system must not hibernate now. If it may, [`Self::over`] is called when it is awake
    /// again, or did not hibernate.
    fn refuses(&self) -> bool;

    /// Hibernation is over, or was refused by somebody.
    fn over(&self);
}

/// A guard that is asked. Dropping it waits for a call that is under way.
///
/// # Invariants
///
/// It is registered with `guard`.
pub(crate) struct Registration<G: Guard> {
    _guard: Arc<G>,
}

impl<G: Guard> Registration<G> {
    /// Has `guard` asked.
    ///
    /// # Errors
    ///
    /// `EBUSY` when one was registered before.
    pub(crate) fn new(guard: Arc<G>) -> Result<Self> {
        // SAFETY: `refuses` is for a pointer to a `G`, and this one is valid until it is unregistered.
        to_result(unsafe {
            bindings::tmem_hibernation_register(
                Some(refuses::<G>),
                Arc::as_ptr(&guard).cast_mut().cast(),
            )
        })?;
        // INVARIANT: It was registered.
        Ok(Self { _guard: guard })
    }
}

impl<G: Guard> Drop for Registration<G> {
    fn drop(&mut self) {
        // SAFETY: It is registered by the type invariant.
        unsafe { bindings::tmem_hibernation_unregister() };
    }
}

/// # Safety
///
/// `data` points to a `G`.
unsafe extern "C" fn refuses<G: Guard>(data: *mut c_void, begins: bool) -> bool {
    // SAFETY: By this function's precondition.
    let guard = unsafe { &*data.cast::<G>() };
    if begins {
        return guard.refuses();
    }
    guard.over();
    false
}
