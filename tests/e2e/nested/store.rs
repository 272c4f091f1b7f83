// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The store inside the VMM.

use crate::bed::MIB;
use crate::nested;
use crate::nested::LARGE;
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use tmem_e2e::Host;
use tmem_e2e::VmOptions;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// For the guest to hear of a new quota.
const EVENT: Duration = Duration::from_secs(60);

#[test]
fn guests_swap_into_the_store_of_the_vmm() -> Result<()> {
    nested::on_host(&nested::machine("store"), |host| {
        pages_come_back_also_after_a_pause(host)?;
        the_quota_changes_under_load(host)
    })
}

/// One CPU; ended by its power button.
fn pages_come_back_also_after_a_pause(host: &Arc<Host>) -> Result<()> {
    let guest = nested::guest(
        host,
        VmOptions {
            name: "paused".into(),
            tmem: Some("quota=256M,swap-size=512M".into()),
            ..VmOptions::default()
        },
    )?;
    guest.swap_on()?;
    let mut job = nested::large_job(&guest, 1)?;
    assert!(guest.counter("succ_stores")? >= nested::OVER * MIB);

    job.tell(Order::Churn)?;
    job.moves()?;
    guest.pause()?;
    let moved = || -> Result<u64> {
        let stats = guest.stats()?;
        Ok(stats.number("/vms/guest/puts")? + stats.number("/vms/guest/gets")?)
    };
    // The device finishes what the guest had asked for.
    let mut before = moved()?;
    until("the device to be done", EVENT, || {
        let last = std::mem::replace(&mut before, moved()?);
        Ok((last == before).then_some(()))
    })?;
    // Something that takes a while, in which the guest could do much.
    host.run("busybox sha256sum /boot/vmlinux")?;
    assert_eq!(moved()?, before, "a paused guest does nothing");
    guest.resume()?;
    job.checked()?;
    assert!(moved()? > before);
    nested::ends_right(&guest, job)?;

    guest.run("modprobe virtio_rng")?;
    let source = guest.read("/sys/class/misc/hw_random/rng_current")?;
    assert!(source.starts_with("virtio_rng"), "{source}");
    let random = || guest.run("busybox xxd -p -l 64 /dev/hwrng");
    assert_ne!(random()?, random()?);

    // As a distribution's init does.
    guest.sh("modprobe button; modprobe evdev; mkdir -p /etc/acpi/PWRF; \
         echo 'busybox poweroff -f' >/etc/acpi/PWRF/00000080; \
         busybox chmod +x /etc/acpi/PWRF/00000080; \
         busybox acpid -l /dev/null -p /run/acpid.pid; \
         until busybox test -s /run/acpid.pid; do busybox sleep 0.1; done")?;
    guest.shut_down(false)
}

/// Two CPUs; ended by a reset.
fn the_quota_changes_under_load(host: &Arc<Host>) -> Result<()> {
    let guest = nested::guest(
        host,
        VmOptions {
            name: "quota".into(),
            cpus: 2,
            tmem: Some("quota=512M".into()),
            ..VmOptions::default()
        },
    )?;
    guest.swap_on()?;
    assert_eq!(guest.counter("quota_bytes")?, 512 << 20);
    let learns = |mib: u64| {
        guest.set_quota(mib << 20)?;
        until("the guest to hear of its quota", EVENT, || {
            Ok((guest.counter("quota_bytes")? == mib << 20).then_some(()))
        })
    };

    let mut job = guest.workload(LARGE, 2)?;
    job.moves()?;
    learns(96)?;
    job.filled()?;
    job.tell(Order::Churn)?;
    job.moves()?;
    learns(256)?;
    job.checked()?;
    assert!(guest.stats()?.number("/vms/guest/puts")? >= nested::OVER * MIB);
    nested::ends_right(&guest, job)?;
    guest.reset()
}
