// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The live filter on block devices: attached to what is in use, it must never
//! be noticed but for speed.
//!
//! Each load knows what every byte must be, so what is tested is the whole
//! way: file system, filter, host, and disk. Tests that have no filter show
//! that the load itself raises no false alarm, and that it does raise one.

mod bad_input;
mod changed;
mod chosen;
mod coherency;
pub(crate) mod control;
mod in_flight;
mod large;
mod late;
mod lost;
mod mutation;
mod places;
mod power_cut;
mod scribble;
mod session;
mod shared;
mod soak;
mod split;
mod stacked;
mod stress;
mod swap;
mod verified;
mod victim;
mod waits;

use anyhow::Result;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;

/// Gives the seed, to run a session again.
const SEED: &str = "TMEM_E2E_SEED";

/// From which a test's random choices follow; another one each time, unless it
/// is given.
pub(crate) fn seed() -> u32 {
    let given = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| fastrand::u32(..))
}

/// A guest with disks.
fn guest(name: &str, memory_mib: u64, drives: Vec<Drive>) -> Result<Guest> {
    let guest = Guest::boot(
        &crate::bed::assets()?,
        GuestOptions {
            name: name.into(),
            memory_mib,
            drives,
            storage: true,
            ..GuestOptions::default()
        },
    )?;
    for module in ["virtio_blk", "nvme", "virtio_scsi", "sd_mod"] {
        guest.run(&format!("modprobe {module}"))?;
    }
    Ok(guest)
}
