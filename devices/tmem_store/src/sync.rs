// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Locks, atomics and threads: the standard library's, or in tests with
//! `--cfg shuttle` those of a scheduler that tries many interleavings.

#[cfg(not(shuttle))]
pub(crate) use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
    RwLockWriteGuard, TryLockError, atomic,
};
#[cfg(not(shuttle))]
pub(crate) use std::thread;

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic,
};
#[cfg(shuttle)]
pub(crate) use shuttle::thread;
#[cfg(shuttle)]
pub(crate) use std::sync::{Arc, OnceLock, PoisonError, TryLockError};
