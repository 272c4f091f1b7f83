// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which kernels say what of the swap they have no use for any more, and when. Linux
//! discards clusters of 2 MiB that are wholly free: before 6.14 only on disks that it does
//! not take for rotational, and it takes every virtio-blk disk for one.

use crate::bed;
use crate::bed::MIB;
use crate::blk::guest;
use crate::blk::guest::DISK;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::Image;
use tmem_e2e::until;

/// Of the program that is swapped out, in MiB.
const LOAD: u64 = 256;

#[test]
fn debian_12_discards_once_the_disk_is_not_rotational() -> Result<()> {
    discards(Some("debian12"), false)
}

#[test]
fn debian_13_discards_once_the_disk_is_not_rotational() -> Result<()> {
    discards(Some("debian13"), false)
}

#[test]
fn later_kernels_discard_on_any_disk() -> Result<()> {
    discards(None, true)
}

/// `at_once`: without being told that the disk is not rotational.
fn discards(stock: Option<&'static str>, at_once: bool) -> Result<()> {
    let image = Image::empty(1024)?;
    let options = GuestOptions {
        name: "dead".into(),
        drives: vec![Drive::new(image.path())],
        ..GuestOptions::default()
    };
    let guest = guest::boot(stock, options)?;
    ensure!(
        guest::is_rotational(&guest)?,
        "virtio-blk as it has ever been"
    );
    guest.run(&format!("mkswap {DISK}"))?;
    let freed = freed_with(&guest, "--discard")?;
    ensure!((freed > 0) == at_once, "{freed} pages were discarded");

    guest::set_rotational(&guest, false)?;
    let freed = freed_with(&guest, "--discard")?;
    ensure!(freed > 0, "nothing was discarded");
    // What is said when the area is swapped on is all that is said with this.
    let freed = freed_with(&guest, "--discard=once")?;
    ensure!(freed == 0, "{freed} pages were discarded");
    guest.power_off()
}

/// Pages that are discarded because a program ends whose memory is swapped out.
fn freed_with(guest: &Guest, flags: &str) -> Result<u64> {
    guest.run(&format!("swapon {flags} {DISK}"))?;
    let mut job = guest.workload(LOAD, 1)?;
    job.filled()?;
    let before = guest::discarded(guest)?;
    job.end()?;
    until("swap to be free", bed::PROMPT, || {
        Ok((guest::used(guest)? < 32 * MIB).then_some(()))
    })?;
    // Waits for the discards that are under way.
    guest.run(&format!("swapoff {DISK}"))?;
    Ok(guest::discarded(guest)? - before)
}
