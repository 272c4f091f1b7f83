// SPDX-License-Identifier: GPL-2.0

//! Spinning for a short time instead of sleeping.

use super::bindings;
use kernel::types::NotThreadSafe;

/// The running task keeps its CPU while this lives; on a kernel with `CONFIG_PREEMPT_RT`, whose
/// spinlocks sleep, it may lose it.
pub(crate) struct Spin(NotThreadSafe);

impl Spin {
    /// Begins.
    pub(crate) fn begin() -> Self {
        // SAFETY: Has no preconditions; `drop` ends it, on the same task.
        unsafe { bindings::tmem_spin_begin() };
        Self(NotThreadSafe)
    }

    /// Waits for a moment. Says whether the CPU still has nothing else to run.
    pub(crate) fn goes_on(&self) -> bool {
        // SAFETY: Has no preconditions.
        unsafe { bindings::tmem_spin_goes_on() }
    }
}

impl Drop for Spin {
    fn drop(&mut self) {
        // SAFETY: `begin` has begun it.
        unsafe { bindings::tmem_spin_end() };
    }
}
