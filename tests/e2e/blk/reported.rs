// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory goes back to the host without the module: DAMON, which is in the kernel, has what
//! is cold swapped out, or somebody asks for it, and QEMU's balloon hears what is free then.

use crate::bed;
use crate::blk::guest;
use crate::blk::guest::DISK;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::time::Duration;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// As it is installed.
const SCRIPT: &str = include_str!("../../../dist/any-guest/tmem-cold");

/// What it says to do where the kernel has no DAMON.
const RECLAIM: &str = "echo 64M >/sys/fs/cgroup/memory.reclaim";

/// The disk's name at the daemon.
const VM: &str = "cold0";

const MIB: u64 = 1 << 20;

/// Of the guest, in MiB.
const MEMORY: u64 = 512;

/// Of the program whose memory gets cold, in MiB.
const LOAD: u64 = 304;

/// That come back at least, in bytes.
const MUCH: u64 = 64 * MIB;

/// For memory to be found cold, and to be reported, on an emulated CPU.
const FOUND: Duration = Duration::from_secs(300);

#[test]
fn cold_memory_comes_back_without_the_module() -> Result<()> {
    comes_back(
        ("debian13", MUCH),
        |guest| {
            guest.sh("COLD=2 RATE=256 PRESSURE=0 sh /tmem-cold on")?;
            until("what is cold to be in swap", FOUND, || {
                let free = guest.meminfo("SwapFree")?;
                let used = guest.meminfo("SwapTotal")? - free;
                Ok((used > LOAD * 1024 / 10 * 9).then_some(()))
            })?;
            compact(guest)
        },
        |guest| {
            let status = guest.sh("sh /tmem-cold status")?;
            ensure!(status.contains("on\n"), "{status}");
            println!("{status}");
            guest.sh("sh /tmem-cold off").map(drop)
        },
    )
}

#[test]
fn memory_that_is_asked_for_comes_back_without_damon() -> Result<()> {
    comes_back(
        ("debian12", MUCH / 4),
        |guest| {
            let (code, said) = guest.try_run("sh /tmem-cold on")?;
            ensure!(code == 1 && said.contains(RECLAIM), "{code}: {said}");
            guest.run("busybox mount -t cgroup2 none /sys/fs/cgroup")?;
            // It fails if less is found.
            guest.sh(RECLAIM)?;
            guest.sh(RECLAIM)?;
            compact(guest)
        },
        |_| Ok(()),
    )
}

/// What is free is here and there; the balloon is told of blocks of 2 MiB.
fn compact(guest: &Guest) -> Result<()> {
    guest.write("/proc/sys/vm/compact_memory", "1")
}

/// What an idle program in the guest `stock` has comes back once `begin` is done, so that QEMU
/// and the store together hold less by so many bytes. The program finds it as it was, before
/// `end` and after it.
fn comes_back(
    (stock, less): (&'static str, u64),
    begin: impl FnOnce(&Guest) -> Result<()>,
    end: impl FnOnce(&Guest) -> Result<()>,
) -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        vms: Vec::new(),
        disks: vec![VM],
        ..DaemonOptions::default()
    })?;
    let options = GuestOptions {
        name: "cold".into(),
        memory_mib: MEMORY,
        vhost_disks: vec![daemon.socket(VM)],
        balloon: true,
        ..GuestOptions::default()
    };
    let guest = guest::boot_of(Some(stock), options)?;
    guest.run("modprobe virtio_balloon")?;
    guest::set_rotational(&guest, false)?;
    guest.run(&format!("swapon --discard {DISK}"))?;
    guest.write("/tmem-cold", SCRIPT)?;

    let held = || daemon.stats()?.number(&format!("/vms/{VM}/held_bytes"));
    let mut job = guest.workload(LOAD, 1)?;
    job.filled()?;
    let (busy, busy_held) = (guest.backed_bytes()?, held()?);
    begin(&guest)?;
    let mut now = (busy, busy_held);
    until("QEMU and the store together to hold less", FOUND, || {
        now = (guest.backed_bytes()?, held()?);
        let is_less = now.0 + now.1 + less < busy + busy_held;
        Ok((is_less && now.0 + MUCH < busy).then_some(()))
    })
    .with_context(|| {
        let (backed, held) = now;
        format!("{busy} and {busy_held} bytes before, {backed} and {held} now")
    })?;
    let (idle, idle_held) = now;
    ensure!(idle_held > busy_held, "the store has got nothing");
    println!(
        "QEMU's memory fell from {} to {} MiB, the store's rose from {} to {} MiB",
        busy / MIB,
        idle / MIB,
        busy_held / MIB,
        idle_held / MIB
    );
    job.order(Order::Verify)?;
    end(&guest)?;
    job.order(Order::Verify)?;
    job.end()?;
    // The kernel breaks its devices when it powers off, and warns if the balloon reports then.
    guest.run("modprobe -r virtio_balloon")?;
    guest.power_off()?;
    daemon.stop()
}
