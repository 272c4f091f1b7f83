// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a guest does while it is measured: it reads files, uses a database, and has
//! a service with much in memory.
//!
//! All that is read goes into a sum. The same is done on the host, on the same
//! content, so that a wrong byte is noticed.

#[cfg(feature = "programs")]
pub mod database;
#[cfg(feature = "programs")]
pub mod files;
pub mod histogram;
#[cfg(feature = "programs")]
mod outcome;
#[cfg(feature = "programs")]
pub mod service;
#[cfg(feature = "programs")]
pub mod sum;

#[cfg(feature = "programs")]
pub use outcome::Outcome;
