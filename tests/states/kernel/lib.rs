// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Stands in for the kernel's crate: as much of it as the files of `guest/driver` use that the
//! tests of this package compile as they stand. Names and behaviour are those of the kernel.
//!
//! Everything runs on one thread, so atomics are plain cells.

#![allow(missing_docs, reason = "the kernel has the documentation")]

mod alloc;
mod error;

pub mod prelude {
    pub use crate::alloc::{InPlaceInit, KBox, KVVec, KVec, __GFP_NOWARN, GFP_KERNEL, GFP_NOWAIT};
    pub use crate::error::{Error, Result, EAGAIN, EINTR, EIO, ENOMEM};
    pub use crate::{pin_init, pr_err};
    pub use tmem_states_macros::pin_data;
}

pub mod sync {
    pub use std::sync::Arc;

    pub mod atomic {
        use std::cell::Cell;

        pub struct Acquire;
        pub struct Full;
        pub struct Relaxed;

        pub struct Atomic<T>(Cell<T>);

        impl<T: Copy> Atomic<T> {
            pub const fn new(value: T) -> Self {
                Self(Cell::new(value))
            }

            pub fn load<O>(&self, _: O) -> T {
                self.0.get()
            }

            pub fn xchg<O>(&self, value: T, _: O) -> T {
                self.0.replace(value)
            }
        }

        impl Atomic<usize> {
            pub fn fetch_add<O>(&self, more: usize, _: O) -> usize {
                self.0.replace(self.0.get() + more)
            }

            pub fn fetch_sub<O>(&self, less: usize, _: O) -> usize {
                self.0.replace(self.0.get() - less)
            }
        }
    }
}

pub mod time {
    pub type Jiffies = u64;

    pub fn msecs_to_jiffies(msecs: u32) -> Jiffies {
        msecs.into()
    }
}

pub mod page {
    pub const PAGE_SHIFT: usize = 12;
    pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
}

/// Makes a value by its fields, some of them with an initialiser, which here is the value itself.
#[macro_export]
macro_rules! pin_init {
    (Self { $($fields:tt)* }) => {
        $crate::pin_init!(@ [] $($fields)*)
    };
    (@ [$($done:tt)*] $field:ident <- $init:expr, $($rest:tt)*) => {
        $crate::pin_init!(@ [$($done)* $field: $init,] $($rest)*)
    };
    (@ [$($done:tt)*] $field:ident: $value:expr, $($rest:tt)*) => {
        $crate::pin_init!(@ [$($done)* $field: $value,] $($rest)*)
    };
    (@ [$($done:tt)*] $field:ident, $($rest:tt)*) => {
        $crate::pin_init!(@ [$($done)* $field,] $($rest)*)
    };
    (@ [$($done:tt)*]) => {
        Self { $($done)* }
    };
}

/// Says nothing.
#[macro_export]
macro_rules! pr_err {
    ($($arg:tt)*) => {{
        let _ = format_args!($($arg)*);
    }};
}
