// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Writes that are under way when a filter comes: a disk that takes bios is
//! done with them before they have ended.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::Image;
use tmem_e2e::until;

/// What the writer does: `D` while it waits for the disk, `Z` when it has ended.
fn state(guest: &Guest) -> Result<String> {
    let stat = guest.sh("cat /proc/$(cat /writer)/stat 2>/dev/null || echo 0 0 Z")?;
    Ok(stat.split(' ').nth(2).unwrap_or_default().trim().to_owned())
}

#[test]
fn a_write_that_ends_late_is_read_back() -> Result<()> {
    let image = Image::empty(16)?;
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = filter::guest("in-flight", 288, vec![Drive::new(image.path())])?;
    guest.load_module_with("precache_eager=1")?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    guest.run("modprobe dm_delay")?;
    // Reads at once, writes after five seconds.
    guest.sh(
        "dmsetup create --noudevsync late --table '0 32768 delay /dev/vda 0 0 /dev/vda 0 5000'",
    )?;
    control::hold(&guest, "/dev/dm-0")?;
    for line in [
        "busybox head -c 4k /dev/urandom >/new",
        "(busybox dd if=/new of=/dev/dm-0 bs=4k oflag=direct >/dev/null 2>&1 & echo $! >/writer)",
    ] {
        guest.sh(line)?;
    }
    // Device mapper does not count a write that waits in this target; its writer sleeps.
    until("the write to be under way", bed::PROMPT, || {
        Ok((state(&guest)? == "D").then_some(()))
    })?;
    control::attach(&guest, "/dev/dm-0", "precache")?;
    ensure!(
        state(&guest)? == "D",
        "the write ended too early for this test"
    );
    let read = "busybox dd if=/dev/dm-0 of=/got bs=4k count=1 2>/dev/null";
    let fresh = "echo 3 >/proc/sys/vm/drop_caches";
    for _ in 0..3 {
        guest.sh(&format!("{fresh}; {read}"))?;
    }
    until("the write to have ended", bed::PROMPT, || {
        Ok((state(&guest)? == "Z").then_some(()))
    })?;
    for _ in 0..3 {
        guest.sh(&format!("{fresh}; {read}; busybox cmp /new /got"))?;
    }
    // It is let in when nothing is under way any more.
    until("blocks to come to the host", bed::PROMPT, || {
        guest.sh(&format!("{fresh}; {read}; busybox cmp /new /got"))?;
        Ok((control::total(&guest, "hits")? > 0).then_some(()))
    })?;
    control::let_go(&guest)?;
    guest.power_off()?;
    daemon.stop()
}
