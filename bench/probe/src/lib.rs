// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the benchmark on the host and the program in its guest say to each other, and what
//! the program does.
//!
//! Each side writes one JSON object a line. An order is answered when it is done.

pub mod aio;
pub mod clock;
pub mod files;
pub mod order;
pub mod pages;
pub mod setup;
