// SPDX-License-Identifier: GPL-2.0

//! A spinlock that is also taken in interrupt context.

use super::bindings;
use kernel::{
    prelude::*,
    sync::lock::{
        Backend,
        Lock, //
    },
};

/// A spinlock that disables interrupts while it is held.
pub(crate) type IrqLock<T> = Lock<T, IrqSave>;

/// Creates an [`IrqLock`] initialiser with the given name.
macro_rules! new_irq_lock {
    ($inner:expr, $name:literal) => {
        $crate::sys::irq_lock::IrqLock::new(
            $inner,
            ::kernel::optional_name!($name),
            ::kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_irq_lock;

/// The backend of [`IrqLock`]: `spin_lock_irqsave()`.
pub(crate) struct IrqSave;

// SAFETY: The kernel's spinlock ensures mutual exclusion. `relock` is the default, which is `lock`.
unsafe impl Backend for IrqSave {
    type State = kernel::bindings::spinlock_t;
    type GuardState = c_ulong;

    #[inline]
    unsafe fn init(
        ptr: *mut Self::State,
        name: *const c_char,
        key: *mut kernel::bindings::lock_class_key,
    ) {
        // SAFETY: The caller promises that `ptr` is valid for writes, and that `name` and `key`
        // stay valid.
        unsafe { kernel::bindings::__spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: The caller promises that the lock is initialised.
        unsafe { bindings::tmem_spin_lock_irqsave(ptr) }
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        let mut flags = 0;
        // SAFETY: The caller promises that the lock is initialised; `flags` is valid for writes.
        unsafe { bindings::tmem_spin_trylock_irqsave(ptr, &mut flags) }.then_some(flags)
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, flags: &Self::GuardState) {
        // SAFETY: The caller owns the lock, and `flags` is what `lock` gave.
        unsafe { bindings::tmem_spin_unlock_irqrestore(ptr, *flags) }
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: The caller promises that the lock is initialised.
        unsafe { kernel::bindings::spin_assert_is_held(ptr) }
    }
}
