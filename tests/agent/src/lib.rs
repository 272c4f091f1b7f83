// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the test on the host and its agent in the guest say to each other,
//! the memory-hungry program that the agent runs, and what else is done on
//! either side.
//!
//! Each side writes one JSON object a line to a serial port.

pub mod first_line;
pub mod http;
pub mod pages;
pub mod protocol;
pub mod workload;
