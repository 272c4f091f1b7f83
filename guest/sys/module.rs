// SPDX-License-Identifier: GPL-2.0

//! The module's use count.

use super::bindings;

/// Keeps the module from being unloaded.
pub(crate) struct InUse(());

impl InUse {
    /// Only from code that keeps the module itself meanwhile, such as an open file's.
    pub(crate) fn new() -> Self {
        // SAFETY: The module is loaded, because this runs.
        unsafe { bindings::tmem_module_get() };
        Self(())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // SAFETY: The count was raised by `new`.
        unsafe { bindings::tmem_module_put() };
    }
}
