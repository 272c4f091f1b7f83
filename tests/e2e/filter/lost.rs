// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A host that loses the pages of a swap partition.

use crate::bed;
use crate::filter::control;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::Image;
use tmem_e2e::protocol::Order;

/// The host has this much of what is swapped out, the disk has the rest.
const QUOTA: &str = "24M";

/// Binary logarithm of the pages that the kernel reads at once: as many as it
/// puts into a bio.
const CLUSTER: &str = "5";

/// The workload may have this much memory. Nothing else in the guest is short of it, so nothing else
/// is lost.
const ROOM: &str = "96M";

/// A script that puts the workload into a cgroup of its own.
fn confine() -> String {
    format!(
        "busybox mkdir /groups; busybox mount -t cgroup2 none /groups; \
         echo +memory >/groups/cgroup.subtree_control; busybox mkdir /groups/small; \
         echo {ROOM} >/groups/small/memory.max; \
         for process in /proc/[0-9]*; do \
             if busybox tr '\\0' ' ' <$process/cmdline | busybox grep -q ' workload $'; then \
                 echo ${{process#/proc/}} >/groups/small/cgroup.procs; \
                 exit 0; \
             fi; \
         done; \
         exit 1"
    )
}

#[test]
fn what_the_host_has_lost_fails_and_nothing_beside_it() -> Result<()> {
    let image = Image::empty(208)?;
    let options = DaemonOptions {
        quota: QUOTA,
        ..DaemonOptions::default()
    };
    let daemon = bed::daemon(options.clone())?;
    let mut guest = Guest::boot(
        &bed::assets()?,
        GuestOptions {
            name: "lost-beside".into(),
            memory_mib: 352,
            device: Some(daemon.socket("vm0")),
            drives: vec![Drive::new(image.path())],
            ..GuestOptions::default()
        },
    )?;
    guest.run("modprobe virtio_blk")?;
    guest.write("/proc/sys/vm/page-cluster", CLUSTER)?;
    let disk = guest.drive(0)?;
    guest.run(&format!("mkswap {disk}"))?;
    guest.run(&format!("swapon {disk}"))?;
    guest.load_module()?;
    guest.disk_appears()?;
    control::attach(&guest, &disk, "preswap")?;

    // Slots are used again and again, so those of the disk and those of the host are beside each other.
    let mut job = guest.workload(176, 1)?;
    guest.sh(&confine())?;
    job.filled()?;
    job.order(Order::Churn)?;
    let account = job.order(Order::Salvage)?;
    ensure!(account.lost == 0, "{account:?}");
    let stored = control::total(&guest, "pages")?;
    ensure!(stored > 8 * bed::MIB, "the host has only {stored} pages");

    guest.unplug()?;
    daemon.stop()?;
    let other = bed::daemon(options)?;
    guest.plug(&other.socket("vm0"))?;
    guest.has_device()?;
    let account = job.order(Order::Salvage)?;
    println!("{} of {stored} lost pages were needed", account.lost);
    ensure!(account.lost > 0, "nothing was lost");
    ensure!(account.lost <= stored, "more was lost than the host had");
    // What it frees may begin with a lost page.
    job.tell(Order::End)?;
    if let Ok(account) = job.outcome()? {
        bail!("the workload did not end: {account:?}");
    }
    guest.run(&format!("swapoff {disk}"))?;
    guest.power_off()?;
    other.stop()
}
