// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A lock that others may be faster to take.

use crate::world;
use std::cell::RefCell;
use std::cell::RefMut;
use std::ops::Deref;
use std::ops::DerefMut;

pub(crate) struct IrqLock<T>(RefCell<T>);

pub(crate) struct Guard<'a, T>(RefMut<'a, T>);

impl<T> IrqLock<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self(RefCell::new(inner))
    }

    /// Other processors do what they do before this one has the lock. Panics on a deadlock.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        world::interleave();
        let guard = Guard(self.0.borrow_mut());
        world::count_locks(1);
        guard
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        world::count_locks(-1);
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

macro_rules! new_irq_lock {
    ($inner:expr, $name:literal) => {
        $crate::sys::irq_lock::IrqLock::new($inner)
    };
}
pub(crate) use new_irq_lock;
