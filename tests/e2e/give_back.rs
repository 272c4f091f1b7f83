// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory goes back to the host. How much it has is asked of the file behind the
//! guest's memory, never of the daemon or the guest.

use crate::bed;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::time::Duration;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

const MIB: u64 = 1 << 20;

/// For the kernel to report what is free, a part of it every so often.
const REPORTED: Duration = Duration::from_secs(300);

/// Waits until the host has memory of the guest's.
fn backed<F: Fn(u64) -> bool>(guest: &Guest, what: &str, holds: F) -> Result<u64> {
    let mut last = 0;
    until(what, REPORTED, || {
        last = guest.backed_bytes()?;
        Ok(holds(last).then_some(last))
    })
    .with_context(|| format!("the host backs {} MiB", last / MIB))
}

fn status(guest: &Guest) -> Result<Value> {
    bed::json(guest, "tmemctl give-back status --json")
}

#[test]
fn freed_memory_is_the_hosts_until_it_is_used_again() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("give-back", 512, &daemon, "vm0")?;
    guest.load_module()?;
    guest.disk_appears()?;
    let said = guest.run("tmemctl give-back on --free-only --delay 100")?;
    ensure!(said.contains("given back"), "{said}");

    let mut job = guest.workload(320, 1)?;
    job.filled()?;
    let busy = guest.backed_bytes()?;
    ensure!(busy > 320 * MIB, "{} MiB are backed", busy / MIB);
    job.order(Order::Verify)?;
    job.end()?;
    let idle = backed(&guest, "half of the memory to be given back", |bytes| {
        bytes < busy - 240 * MIB
    })?;
    let status = status(&guest)?;
    ensure!(status["given_bytes"].as_u64() > Some(240 * MIB), "{status}");
    ensure!(status["refused_bytes"] == 0, "{status}");
    ensure!(status["memory_bytes"] == 512 * MIB, "{status}");

    // It is used again, with the right content.
    let mut job = guest.workload(320, 2)?;
    job.filled()?;
    ensure!(guest.backed_bytes()? > idle + 160 * MIB);
    job.order(Order::Verify)?;
    guest.run("tmemctl give-back off")?;
    job.order(Order::Verify)?;
    job.end()?;
    bed::nothing_lost(&guest)?;
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn cold_memory_is_found_moved_to_the_host_and_its_frames_given_back() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("give-back-cold", 512, &daemon, "vm0")?;
    guest.swap_on()?;
    let mut job = guest.workload(320, 1)?;
    job.filled()?;
    let busy = guest.backed_bytes()?;
    // All of the CPU: an emulated one is slow.
    guest.run("tmemctl give-back on --cold 2 --delay 100 --pressure 20 --cpu 100")?;
    backed(&guest, "cold memory to be given back", |bytes| {
        bytes < busy - 160 * MIB
    })?;
    let text = guest.run("tmemctl give-back status")?;
    ensure!(text.contains("moved out"), "{text}");
    let status = status(&guest)?;
    ensure!(status["cold"]["is_running"] == true, "{status}");
    let pages = daemon.stats()?.number("/vms/vm0/persistent_pages")?;
    ensure!(pages * 4096 > 160 * MIB, "the daemon has {pages} pages");

    job.order(Order::Verify)?;
    guest.run("tmemctl give-back off")?;
    let status = guest.read("/sys/module/damon_stat/parameters/enabled")?;
    ensure!(status.trim() == "Y", "the kernel's statistics are back");
    job.order(Order::Verify)?;
    job.end()?;
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn memory_that_comes_and_goes_while_the_device_does_is_right() -> Result<()> {
    let mut daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = bed::guest("give-back-replug", 384, &daemon, "vm0")?;
    guest.load_module()?;
    guest.disk_appears()?;
    guest.run("tmemctl give-back on --free-only --delay 20 --order 0")?;
    // Reports are under way at any time: memory becomes free, and is used again.
    for round in 0..3 {
        let mut first = guest.workload(100, 2 * round)?;
        first.filled()?;
        let mut second = guest.workload(100, 2 * round + 1)?;
        second.filled()?;
        first.end()?;
        match round % 3 {
            0 => guest.unplug()?,
            1 => {
                daemon.kill()?;
                daemon = bed::daemon(DaemonOptions::default())?;
            }
            _ => {}
        }
        let mut third = guest.workload(100, 100 + round)?;
        third.filled()?;
        second.order(Order::Verify)?;
        if round % 3 != 2 {
            if round % 3 == 1 {
                guest.unplug()?;
            }
            guest.plug(&daemon.socket("vm0"))?;
        }
        third.order(Order::Verify)?;
        second.end()?;
        third.order(Order::Verify)?;
        third.end()?;
    }
    backed(&guest, "memory to be given back after all", |bytes| {
        bytes < 200 * MIB
    })?;
    let status = status(&guest)?;
    ensure!(status["refused_bytes"] == 0, "{status}");
    // Also with a report under way, most likely.
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_report_that_is_not_answered_holds_little_memory() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("give-back-halted", 512, &daemon, "vm0")?;
    guest.load_module()?;
    guest.disk_appears()?;
    let mut job = guest.workload(256, 1)?;
    job.filled()?;
    let unfree = || -> Result<u64> {
        let [all, free, anonymous] = ["MemTotal", "MemFree", "AnonPages"];
        Ok(guest.meminfo(all)? - guest.meminfo(free)? - guest.meminfo(anonymous)?)
    };
    let used = unfree()?;
    // All blocks of a report are large now, and it begins when the memory below is free.
    guest.run("tmemctl give-back on --free-only --delay 1000 --order 9")?;
    daemon.halt()?;
    job.end()?;
    // What is in a report is neither free nor used. Nor are pages that a CPU keeps for itself, some
    // 20 MiB.
    let mut held = 0;
    until("a report to be under way", REPORTED, || {
        held = unfree()?.saturating_sub(used);
        Ok((held >= 6 << 10).then_some(()))
    })?;
    ensure!(held < 64 << 10, "a report holds {held} KiB");
    let busy = guest.backed_bytes()?;
    daemon.go_on()?;
    backed(&guest, "memory to be given back after all", |bytes| {
        bytes < busy - 64 * MIB
    })?;
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_snapshot_is_smaller_by_what_is_said() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("snapshot", 512, &daemon, "vm0")?;
    guest.swap_on()?;
    guest.sh("mkdir -p /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup")?;
    let (code, said) = guest.try_run("tmemctl reclaim 128M --snapshot")?;
    ensure!(code != 0 && said.contains("give-back on"), "{said}");
    guest.run("tmemctl give-back on --free-only")?;
    let mut job = guest.workload(256, 1)?;
    job.filled()?;
    let before = guest.backed_bytes()?;
    let said = guest.run("tmemctl reclaim 128M --snapshot")?;
    let after = guest.backed_bytes()?;
    // What QEMU's memory takes, as the host's kernel counts it.
    let less = before.saturating_sub(after) / MIB;
    let told = said
        .split_once(" MiB less than before")
        .and_then(|(until, _)| until.rsplit(' ').next()?.parse::<f64>().ok())
        .with_context(|| format!("it does not say how much: {said}"))?;
    println!("{said}{less} MiB less by the host's count");
    ensure!(less > 64, "{less} MiB less: {said}");
    // What was free before, and reported meanwhile, is in only one of them.
    ensure!((told - less as f64).abs() < 48.0, "{less} MiB less: {said}");
    job.order(Order::Verify)?;
    job.end()?;
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn what_was_brought_back_needs_no_host() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("pull", 512, &daemon, "vm0")?;
    guest.swap_on()?;
    guest.sh("mkdir -p /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup")?;
    let mut job = guest.workload(192, 1)?;
    job.filled()?;
    guest.run("tmemctl reclaim 128M")?;
    let loads = guest.counter("loads")?;
    let said = guest.run("tmemctl pull --rate 1G")?;
    ensure!(said.contains("Brought back"), "{said}");
    let brought = (guest.counter("loads")? - loads) * 4096 / MIB;
    ensure!(brought > 96, "{brought} MiB came back: {said}");
    // Files that are in memory only are nobody's: those of this guest's root.
    guest.sh("find / -xdev -type f -exec cat {} + >/dev/null")?;
    // Nothing of the program is asked of the host any more.
    let loads = guest.counter("loads")?;
    guest.unplug()?;
    job.order(Order::Verify)?;
    ensure!(guest.counter("loads")? == loads, "pages were still out");
    job.end()?;
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn memory_is_moved_out_at_once_when_it_is_asked_for() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("reclaim", 512, &daemon, "vm0")?;
    guest.swap_on()?;
    let (code, said) = guest.try_run("tmemctl reclaim 64M")?;
    ensure!(code == 1 && said.contains("mount -t cgroup2"), "{said}");
    guest.sh("mkdir -p /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup")?;
    let mut job = guest.workload(256, 1)?;
    job.filled()?;
    let before = guest.meminfo("SwapFree")?;
    let said = guest.run("tmemctl reclaim 128M")?;
    ensure!(said.contains("Moved out 128 MiB"), "{said}");
    let swapped = (before - guest.meminfo("SwapFree")?) / 1024;
    ensure!(swapped > 96, "{swapped} MiB are in swap");
    // More than there is.
    let (code, said) = guest.try_run("tmemctl reclaim 2G")?;
    ensure!(code == 1 && said.contains("of 2 GiB"), "{said}");
    job.order(Order::Verify)?;
    job.end()?;
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_balloon_in_the_way_is_named() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = Guest::boot(
        &bed::assets()?,
        GuestOptions {
            name: "balloon".into(),
            memory_mib: 256,
            device: Some(daemon.socket("vm0")),
            balloon: true,
            ..GuestOptions::default()
        },
    )?;
    guest.run("modprobe virtio_balloon")?;
    guest.load_module()?;
    guest.disk_appears()?;
    let (code, said) = guest.try_run("tmemctl give-back on --free-only")?;
    ensure!(
        code == 1 && said.contains("modprobe -r virtio_balloon"),
        "{said}"
    );
    ensure!(status(&guest)?["given_bytes"] == 0);

    // As it is told.
    guest.run("modprobe -r virtio_balloon")?;
    guest.run("tmemctl give-back on --free-only --delay 100")?;
    let mut job = guest.workload(128, 1)?;
    job.filled()?;
    let busy = guest.backed_bytes()?;
    job.order(Order::Verify)?;
    job.end()?;
    backed(&guest, "memory to be given back", |bytes| {
        bytes < busy - 96 * MIB
    })?;

    // The other way round it is the balloon that has to do without.
    guest.run("modprobe virtio_balloon")?;
    guest.run("tmemctl give-back off")?;
    guest.power_off()?;
    daemon.stop()
}
