// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disks that let nobody in when a filter is to come: one that does not end
//! its I/O, and one that sleeps.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Result;
use anyhow::ensure;
use serde_json::json;
use tmem_e2e::Bus;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::Image;
use tmem_e2e::until;

/// What the shell says of a program that was ended by the signal TERM.
const TERMINATED: &str = "143";

/// Lets the disk 0 move as many bytes a second; 0 is any number.
fn throttle(guest: &Guest, bytes: u64) -> Result<()> {
    guest.qmp(
        "block_set_io_throttle",
        json!({
            "id": "/machine/peripheral/disk0/virtio-backend",
            "bps": bytes, "bps_rd": 0, "bps_wr": 0,
            "iops": 0, "iops_rd": 0, "iops_wr": 0,
        }),
    )?;
    Ok(())
}

/// Reads of a disk that are under way.
fn reads(guest: &Guest, disk: &str) -> Result<u64> {
    let line = guest.read(&format!(
        "{}/inflight",
        disk.replace("/dev/", "/sys/block/")
    ))?;
    let reads = line.split_whitespace().next().unwrap_or_default();
    Ok(reads.parse()?)
}

#[test]
fn a_disk_that_does_not_answer_is_not_waited_for_without_end() -> Result<()> {
    let image = Image::empty(16)?;
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = filter::guest("stuck", 288, vec![Drive::new(image.path())])?;
    guest.load_module_with("precache_eager=1")?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    let disk = guest.drive(0)?;
    control::hold(&guest, &disk)?;
    throttle(&guest, 4096)?;
    // The first is done at once, the others wait for minutes.
    for at in 0..4 {
        guest.sh(&format!(
            "busybox dd if={disk} of=/dev/null bs=1M count=1 skip={at} iflag=direct \
             >/dev/null 2>&1 &"
        ))?;
    }
    until("reads to be under way", bed::PROMPT, || {
        Ok((reads(&guest, &disk)? > 0).then_some(()))
    })?;
    let attach = format!("tmemctl attach {disk} --kind precache");
    // It hears a signal before its patience ends,
    let said = guest.sh(&format!(
        "ended=0; busybox timeout 2 {attach} || ended=$?; echo $ended"
    ))?;
    ensure!(said.lines().any(|line| line == TERMINATED), "{said}");
    // and gives up when nothing else comes.
    let (code, said) = guest.try_run(&attach)?;
    ensure!(code == 1 && said.contains("did not end its I/O"), "{said}");
    ensure!(control::attached(&guest)? == 0, "it has a filter");
    ensure!(
        reads(&guest, &disk)? > 0,
        "the reads ended too early for this test"
    );
    throttle(&guest, 0)?;
    until("the reads to have ended", bed::PROMPT, || {
        Ok((reads(&guest, &disk)? == 0).then_some(()))
    })?;
    guest.run(&attach)?;
    control::detach(&guest, &disk)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_disk_that_sleeps_is_woken_for_its_filter() -> Result<()> {
    let image = Image::empty(16)?;
    let daemon = bed::daemon(DaemonOptions::default())?;
    let drive = Drive {
        bus: Bus::Scsi,
        ..Drive::new(image.path())
    };
    let mut guest = filter::guest("asleep", 288, vec![drive])?;
    guest.load_module_with("precache_eager=1")?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    let disk = guest.drive(0)?;
    control::hold(&guest, &disk)?;
    let power = format!("{}/device/power", disk.replace("/dev/", "/sys/block/"));
    guest.write(&format!("{power}/autosuspend_delay_ms"), "100")?;
    guest.write(&format!("{power}/control"), "auto")?;
    let falls_asleep = || {
        until("the disk to sleep", bed::PROMPT, || {
            let status = guest.read(&format!("{power}/runtime_status"))?;
            Ok((status.trim() == "suspended").then_some(()))
        })
    };
    falls_asleep()?;
    control::attach(&guest, &disk, "precache")?;
    falls_asleep()?;
    // Of a large read not all blocks are put when the machine is busy.
    until("the host to be asked", bed::PROMPT, || {
        guest.sh(&format!(
            "echo 3 >/proc/sys/vm/drop_caches; \
             busybox dd if={disk} of=/dev/null bs=16k count=1 2>/dev/null"
        ))?;
        Ok((control::total(&guest, "hits")? > 0).then_some(()))
    })?;
    falls_asleep()?;
    control::detach(&guest, &disk)?;
    guest.power_off()?;
    daemon.stop()
}
