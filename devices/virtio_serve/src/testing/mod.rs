// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver's side of a virtqueue, for tests, benchmarks and fuzzing.
//!
//! What it is told to do it does: nothing here judges. It panics when it is
//! misused, which is why no product links it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::cast_possible_truncation
)]

mod bytes;
mod hostile;
mod layout;
mod queue;

pub use bytes::Bytes;
pub use hostile::{REGIONS, hostile};
pub use layout::Layout;
pub use queue::{DriverQueue, Span, Used};
