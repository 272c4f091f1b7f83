// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A small virtual machine monitor on KVM that gives its guest transcendent
//! memory.
//!
//! [`machine`] is the machine without devices: memory, interrupts, vCPUs, and
//! how a kernel is started on it. [`virtio`] holds the devices and the one
//! transport that they share.

pub mod api;
pub mod bus;
pub mod cli;
pub mod compression;
pub mod confine;
pub mod event;
pub mod guest;
pub mod machine;
pub mod peek;
mod recurring;
mod run;
pub mod serial;
pub mod terminal;
pub mod virtio;
pub mod vm;

pub use run::run;
