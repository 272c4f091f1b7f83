// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest's side of a virtqueue, for tests, benchmarks and fuzzing.
//!
//! [`DriverQueue`] is a split virtqueue as a driver keeps it. [`Driver`] makes
//! requests over one, through a [`Transport`]: [`InProcess`] calls a device in
//! this process, a vhost-user front end would kick an eventfd instead.
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

mod driver;
pub mod fuzz;
mod guest;
mod in_process;
mod shares;

pub use driver::{Answer, Driver, Transport};
pub use guest::{header, page_of, request};
pub use in_process::{InProcess, client, device};
pub use shares::{Allowed, HostShare, HostShares, host_shares, verified_shares};
pub use virtio_serve::testing::{DriverQueue, Layout, Span, Used};
