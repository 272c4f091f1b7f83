// SPDX-License-Identifier: GPL-2.0

//! Before the kernel kills a process for lack of memory, it asks who has some left.

use super::bindings;
use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc, //
};

/// Who is asked for memory.
pub(crate) trait Relief: Send + Sync + 'static {
    /// Frees what there is, and says how many pages that is. With 0 from all who are asked, a
    /// process is killed; otherwise the kernel tries again.
    ///
    /// In the context of the task that needs memory, with the kernel's lock for it held: it must not
    /// allocate. One call at a time.
    fn relieve(&self) -> u64;
}

/// Somebody who is asked. Dropping it waits for a call that is under way.
///
/// # Invariants
///
/// It is registered with `relief`.
pub(crate) struct Registration<R: Relief> {
    _relief: Arc<R>,
}

impl<R: Relief> Registration<R> {
    /// Has `relief` asked.
    ///
    /// # Errors
    ///
    /// `EBUSY` when one was registered before.
    pub(crate) fn new(relief: Arc<R>) -> Result<Self> {
        // SAFETY: `relieve` is for a pointer to an `R`, and this one is valid until it is unregistered.
        to_result(unsafe {
            bindings::tmem_oom_register(Some(relieve::<R>), Arc::as_ptr(&relief).cast_mut().cast())
        })?;
        // INVARIANT: It was registered.
        Ok(Self { _relief: relief })
    }
}

impl<R: Relief> Drop for Registration<R> {
    fn drop(&mut self) {
        // SAFETY: It is registered by the type invariant.
        unsafe { bindings::tmem_oom_unregister() };
    }
}

/// # Safety
///
/// `data` points to an `R`.
unsafe extern "C" fn relieve<R: Relief>(data: *mut c_void) -> c_ulong {
    // SAFETY: By this function's precondition.
    let relief = unsafe { &*data.cast::<R>() };
    relief.relieve() as c_ulong
}
