// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the test on the host and its agent in the guest say to each other,
//! and the memory-hungry program that the agent runs.
//!
//! Each side writes one JSON object a line to a serial port.

pub mod http;
pub mod pages;
pub mod protocol;
pub mod workload;
