// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! For tests, here and of the programs: virtual machines without front ends, and a judge of
//! answers by their OpenAPI description.
//!
//! It panics when it is misused, which is why no product links it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod document;
#[cfg(test)]
mod door;
mod schema;

pub use document::Document;
#[cfg(test)]
pub(crate) use door::FakeDoor;
