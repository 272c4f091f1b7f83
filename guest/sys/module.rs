// SPDX-License-Identifier: GPL-2.0

//! The module's use count, and whether it is loaded to the end.

use super::bindings;
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// How often, and how long in between in microseconds, to look whether the module is loaded. What
/// is left to do after a device appears takes much less.
const LOOKS: u32 = 1000;
const LOOK_MICROS: i64 = 1000;

/// Keeps the module from being unloaded.
pub(crate) struct InUse(());

impl InUse {
    /// Keeps the module, unless it is being unloaded.
    ///
    /// # Errors
    ///
    /// `ENODEV`.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Has no preconditions.
        if unsafe { bindings::tmem_module_try_get() } {
            Ok(Self(()))
        } else {
            Err(ENODEV)
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // SAFETY: The count was raised by `new`.
        unsafe { bindings::tmem_module_put() };
    }
}

/// Waits until the module is loaded, so that its use count means something: loading that fails
/// frees the module whatever the count. For what programs open; in process context.
///
/// # Errors
///
/// `EAGAIN` when that takes too long.
pub(super) fn wait_until_loaded() -> Result {
    for _ in 0..LOOKS {
        // SAFETY: Has no preconditions.
        if unsafe { bindings::tmem_module_is_live() } {
            return Ok(());
        }
        fsleep(Delta::from_micros(LOOK_MICROS));
    }
    Err(EAGAIN)
}
