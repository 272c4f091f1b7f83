// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A machine whose device is a plain disk, with front ends as VMMs are.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod cloud_hypervisor;
mod firecracker;
mod gone;
mod lane;
mod qemu;
mod requests;
mod restart;
mod settings;

use std::fs::File;

use rustix::fs::{MemfdFlags, memfd_create};

/// Bytes of the machine's memory, and of its disk.
const MEMORY: u64 = 1 << 20;
const DISK: u64 = 8 << 20;

/// The memory of a new machine.
fn memory() -> File {
    let memory = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
    memory.set_len(MEMORY).unwrap();
    memory
}
