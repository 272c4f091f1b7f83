// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The disk as a disk: read, written, zeroed and discarded against a model, with file
//! systems on it, and beside the disk of another VM.

use crate::bed;
use crate::blk::guest;
use crate::filter;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;

/// For how long each thing is done, in seconds. `cargo xtask soak --disk` sets it.
const SECONDS: &str = "TMEM_BLK_SECONDS";
const FEW: u64 = 15;

/// Of a round of both, in seconds.
const ROUND: u64 = 300;

/// Of the disks, in MiB. Content that does not compress fits into the quota.
const SIZE: u64 = 64;

#[test]
fn it_is_a_disk_and_nobody_elses() -> Result<()> {
    let seconds = match std::env::var(SECONDS) {
        Ok(text) => text.parse().context(SECONDS)?,
        Err(_) => FEW,
    };
    let seed = filter::seed();
    println!("{seconds} s of each, seed {seed}");
    let daemon = bed::daemon(DaemonOptions {
        vms: Vec::new(),
        disks: vec!["one", "other"],
        swap_size: "64M",
        ..DaemonOptions::default()
    })?;
    let options = GuestOptions {
        name: "disk".into(),
        vhost_disks: vec![daemon.socket("one"), daemon.socket("other")],
        ..GuestOptions::default()
    };
    let guest = guest::boot(Some("debian13"), options)?;
    for disk in ["vda", "vdb"] {
        // But for the swap header, it is empty.
        guest.sh(&format!(
            "busybox dd if=/dev/{disk} bs=64k skip=1 2>/dev/null | busybox cmp -n {} - /dev/zero",
            (SIZE << 20) - 65536
        ))?;
    }
    for (round, seed) in (0..seconds.div_ceil(ROUND)).zip((seed..).step_by(2)) {
        let seconds = ROUND.min(seconds - round * ROUND);
        println!("round {round}, seed {seed}");
        blocks(&guest, seed, seconds)?;
        file_system(&guest, seed, seconds)?;
    }
    let stats = daemon.stats()?;
    for disk in ["one", "other"] {
        for op in ["write", "discard", "write_zeroes"] {
            let count = stats.number(&format!("/vms/{disk}/device/requests/{op}"))?;
            ensure!(count > 0, "{disk} has seen no {op}");
        }
    }
    guest.power_off()?;
    daemon.stop()
}

/// Both disks against models of them. Whatever is read must have been written there, with
/// the seed of that disk.
fn blocks(guest: &Guest, seed: u32, seconds: u64) -> Result<()> {
    let mut loads = Vec::new();
    for (disk, seed) in [("vda", seed), ("vdb", seed.wrapping_add(1))] {
        let line = format!("blocks /dev/{disk} --seed {seed} --seconds {seconds}");
        loads.push(guest.load(&line)?);
    }
    for load in &mut loads {
        println!("{:?}", load.ended()?);
    }
    Ok(())
}

/// ext4 in a partition of the first disk; the second one keeps what it has.
fn file_system(guest: &Guest, seed: u32, seconds: u64) -> Result<()> {
    let of_other = || guest.sh("busybox dd if=/dev/vdb bs=1M 2>/dev/null | busybox sha256sum");
    let before = of_other()?;
    guest.sh("busybox printf 'o\\nn\\np\\n1\\n\\n\\nw\\n' | busybox fdisk /dev/vda")?;
    guest.run("mke2fs -q -F -t ext4 -b 4096 /dev/vda1")?;
    guest.sh(
        "mkdir -p /mnt && busybox mount -t ext4 -o discard /dev/vda1 /mnt && mkdir /mnt/files",
    )?;
    let line = format!("files /mnt/files --seed {seed} --seconds {seconds} --size-mib 24");
    let mut load = guest.load(&line)?;
    println!("{:?}", load.ended()?);
    guest.sh("busybox fstrim /mnt; busybox umount /mnt")?;
    guest.run("e2fsck -f -n /dev/vda1")?;
    ensure!(of_other()? == before, "the other disk has changed");
    Ok(())
}
