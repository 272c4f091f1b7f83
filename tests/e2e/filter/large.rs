// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk that is much larger than what a guest may keep of it.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Image;

const DISK: &str = "/dev/vda";

/// Size of the disk, in MiB: 4 TiB, and there is nothing on it.
const MIB: u64 = 4 << 20;

/// RAM of the guest, in MiB.
const MEMORY: u64 = 512;

/// What it may take to know about the disk's pages, in bytes.
const KNOWN: u64 = 2 << 20;

/// What the guest's memory may shrink by for a filter, in kB: that, the copies of pages that are on
/// their way, what it takes to know what is in which frame, and what the kernel does meanwhile.
const TAKEN: u64 = 12 << 10;

#[test]
fn a_small_guest_has_a_filter_on_a_disk_of_four_tebibytes() -> Result<()> {
    let image = Image::empty(MIB)?;
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = filter::guest("large", MEMORY, vec![Drive::new(image.path())])?;
    guest.load_module_with("precache_eager=1")?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    control::hold(&guest, DISK)?;
    for kind in ["precache", "victim"] {
        guest.sh("echo 3 >/proc/sys/vm/drop_caches")?;
        let before = guest.meminfo("MemAvailable")?;
        control::attach(&guest, DISK, kind)?;
        let taken = before.saturating_sub(guest.meminfo("MemAvailable")?);
        let known = control::total(&guest, "known_bytes")?;
        println!("{kind}: {known} bytes to know about pages, {taken} kB less memory");
        ensure!(known < KNOWN, "{kind}: {known} bytes for no page at all");
        ensure!(taken < TAKEN, "{kind}: {taken} kB of memory for no page");
        // Pages far from each other are known, and read from the host.
        for _ in 0..3 {
            for tebibyte in 0..4 {
                for place in [0, 1 << 8, (1 << 20) - 1] {
                    let at = (tebibyte << 20) + place;
                    guest.sh(&format!(
                        "busybox dd if={DISK} of=/dev/null bs=1M skip={at} count=1 2>/dev/null"
                    ))?;
                }
            }
            guest.sh("echo 1 >/proc/sys/vm/drop_caches")?;
        }
        let hits = control::total(&guest, "hits")?;
        ensure!(hits > 256, "{kind}: {hits} pages came from the host");
        let known = control::total(&guest, "known_bytes")?;
        ensure!(known < KNOWN, "{kind}: {known} bytes for 12 MiB");
        control::detach(&guest, DISK)?;
    }
    guest.power_off()?;
    daemon.stop()
}
