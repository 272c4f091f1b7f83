// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest with a virtio-blk disk, and what Linux says about it.

use crate::bed;
use anyhow::Context;
use anyhow::Result;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;

/// The disk.
pub(super) const DISK: &str = "/dev/vda";

/// Memory of a guest and of the program in it, in MiB.
pub(super) const MEMORY: u64 = 160;

/// Boots, with [`MEMORY`], the stock guest `stock`, or the one that could have the module, and waits for the
/// disk.
pub(super) fn boot(stock: Option<&'static str>, options: GuestOptions) -> Result<Guest> {
    let memory_mib = MEMORY;
    boot_of(
        stock,
        GuestOptions {
            memory_mib,
            ..options
        },
    )
}

/// The same with as much memory as `options` say.
pub(super) fn boot_of(stock: Option<&'static str>, options: GuestOptions) -> Result<Guest> {
    let name = stock.unwrap_or("backports");
    let guest = Guest::boot(
        &bed::assets()?,
        GuestOptions {
            name: format!("{}-{name}", options.name),
            stock,
            ..options
        },
    )?;
    guest.virtio_disk_appears()?;
    Ok(guest)
}

/// Tells Linux whether seeks are cheap on the disk; it heeds that when it swaps it on.
pub(super) fn set_rotational(guest: &Guest, is: bool) -> Result<()> {
    let text = if is { "1" } else { "0" };
    guest.write("/sys/block/vda/queue/rotational", text)
}

pub(super) fn is_rotational(guest: &Guest) -> Result<bool> {
    Ok(guest.read("/sys/block/vda/queue/rotational")?.trim() == "1")
}

/// Pages that Linux has discarded on the disk (Documentation/block/stat.rst).
pub(super) fn discarded(guest: &Guest) -> Result<u64> {
    /// The field "discard sectors".
    const SECTORS: usize = 13;
    let stat = guest.read("/sys/block/vda/stat")?;
    let field = stat.split_whitespace().nth(SECTORS);
    let sectors: u64 = field.context("no discards are counted")?.parse()?;
    Ok(sectors / 8)
}

/// Pages that Linux has in swap.
pub(super) fn used(guest: &Guest) -> Result<u64> {
    Ok((guest.meminfo("SwapTotal")? - guest.meminfo("SwapFree")?) / 4)
}
