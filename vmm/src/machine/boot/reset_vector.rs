// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! All the firmware there is: what a processor finds at the reset vector.
//!
//! A kernel that resets a hardware-reduced machine without EFI jumps there in
//! real mode by default (Linux, arch/x86/kernel/reboot.c, `reboot_init`).

use anyhow::{Context, Result};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::machine::{layout, power};

/// Writes the value that resets to the reset register, then waits.
fn code() -> [u8; 9] {
    let [low, high] = (layout::POWER + power::RESET).to_le_bytes();
    [
        0xba,
        low,
        high, // mov dx, port
        0xb0,
        power::RESET_VALUE, // mov al, value
        0xee,               // out dx, al
        0xf4,               // hlt
        0xeb,
        0xfd, // jmp to hlt
    ]
}

/// Puts the code in place.
///
/// # Errors
/// When memory ends below 1 MiB.
pub fn write(memory: &GuestMemoryMmap) -> Result<()> {
    memory
        .write_slice(&code(), GuestAddress(layout::RESET_VECTOR))
        .context("the guest's memory has no room for a reset vector")
}
