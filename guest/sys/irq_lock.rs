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

/// A spinlock with interrupts disabled while it is held.
///
/// As the kernel crate's `SpinLockIrq`, which it has since 7.3.
pub(crate) type IrqLock<T> = Lock<T, IrqDisable>;

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

/// The backend of [`IrqLock`]: `spin_lock_irq_disable()`.
///
/// The kernel counts how many of these locks a CPU holds, so guards may be dropped in any order.
/// With `spin_lock_irqsave()` the first to be dropped could enable interrupts under the others.
pub(crate) struct IrqDisable;

// SAFETY: The kernel's spinlock ensures mutual exclusion. `relock` is the default, which is `lock`.
unsafe impl Backend for IrqDisable {
    type State = kernel::bindings::spinlock_t;
    type GuardState = ();

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
        unsafe { bindings::tmem_spin_lock_irq_disable(ptr) }
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        // SAFETY: The caller promises that the lock is initialised.
        unsafe { bindings::tmem_spin_trylock_irq_disable(ptr) }.then_some(())
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, (): &Self::GuardState) {
        // SAFETY: The caller owns the lock, which `lock` or `try_lock` has taken.
        unsafe { bindings::tmem_spin_unlock_irq_enable(ptr) }
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: The caller promises that the lock is initialised.
        unsafe { kernel::bindings::spin_assert_is_held(ptr) }
    }
}
