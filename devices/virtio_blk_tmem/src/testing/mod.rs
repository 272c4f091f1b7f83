// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver of virtio-blk, for tests, benchmarks and fuzzing.
//!
//! It is written from section 5.2 of the virtio specification, and shares no code with the
//! device. What it is told to do it does: nothing here judges. It panics when it is misused,
//! which is why no product links it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::cast_possible_truncation
)]

mod driver;
pub mod fuzz;

pub use driver::{Answer, Driver, range, request};
pub use virtio_serve::testing::Layout;
