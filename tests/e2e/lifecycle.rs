// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Loading and unloading, before and after the device.

use crate::bed;
use anyhow::Result;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;

#[test]
fn the_module_loads_and_unloads_twenty_times() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("twenty", 160, &daemon, "vm0")?;
    for round in 0..20 {
        guest.swap_on()?;
        let (code, output) = guest.try_run("rmmod virtio_tmem")?;
        assert_ne!(
            code, 0,
            "round {round}: unloaded under active swap: {output}"
        );
        guest.run("swapoff /dev/tmem0")?;
        guest.run("rmmod virtio_tmem")?;
        bed::settles(&daemon, "/vms/vm0/pools", |pools| pools == 0)?;
    }
    // And it works as on the first day.
    guest.swap_on()?;
    bed::swaps(&guest, 176)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn the_module_waits_for_a_device_that_comes_later() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = Guest::boot(
        &bed::assets()?,
        GuestOptions {
            name: "later".into(),
            memory_mib: 160,
            ..GuestOptions::default()
        },
    )?;
    guest.load_module()?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    guest.run("mkswap /dev/tmem0")?;
    guest.run("swapon /dev/tmem0")?;

    bed::swaps(&guest, 176)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_page_that_was_never_written_reads_as_zeros() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("unwritten", 160, &daemon, "vm0")?;
    guest.load_module()?;
    guest.disk_appears()?;
    // Page 0 has content, page 1 has none. dd reads both into one buffer, past
    // the page cache, so that a buffer left as it was would show page 0 twice.
    guest.run("busybox dd if=/bin/busybox of=/dev/tmem0 bs=4096 count=1 oflag=direct")?;
    guest.run("busybox dd if=/dev/tmem0 of=/two bs=4096 count=2 iflag=direct")?;
    guest.run("busybox cmp -n 4096 /two /bin/busybox")?;
    guest.run("busybox dd if=/two of=/second bs=4096 skip=1 count=1")?;
    guest.run("busybox cmp -n 4096 /second /dev/zero")?;
    assert_eq!(guest.run("busybox stat -c %s /second")?.trim(), "4096");
    guest.power_off()?;
    daemon.stop()
}
