// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The front end of vhost-user, driven through the device's registers: by the
//! real daemon, and by one that misbehaves.
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod blk;
mod daemon;
mod disk;
mod fake;
mod guest;
mod hostile;
mod odd;
mod service;
