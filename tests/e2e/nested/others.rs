// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests in VMMs of others, whose programs the environment names: a virtio-blk disk, and the
//! native device.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tmem_e2e::protocol::Order;
use tmem_e2e::{
    Daemon, DaemonOptions, DaemonPlace, Guest, Host, Other, OtherOptions, OtherVmm, until,
};

use super::{LARGE, OVER, on_host};
use crate::bed::{self, MIB};
use crate::blk::swap::{VM, number, over_kills};

/// RAM of a guest in MiB: with that of guests of ours the kernel has none left before its
/// initrd is unpacked.
const MEMORY: u64 = 144;

/// For a disk to be there after its driver.
const APPEARS: Duration = Duration::from_secs(60);

const DISK: &str = "/dev/vda";

#[test]
#[ignore = "needs a program that is in no package: see tests/README.md"]
fn cloud_hypervisor_has_a_disk() -> Result<()> {
    with(OtherVmm::CloudHypervisor, "ch-disk", |host| {
        let place = place(host, &[], &[VM], true)?;
        let daemon = place.start()?;
        let guest = launch(OtherVmm::CloudHypervisor, host, |options| {
            options.cpus = 2;
            options.disk = Some(daemon.socket(VM));
        })?;
        swap_on_disk(&guest)?;
        let daemon = over_kills(&place, daemon, &guest, LARGE, OVER)?;
        ensure!(number(&daemon, "puts_refused_quota")? == 0);
        guest.run(&format!("swapoff {DISK}"))?;
        guest.ends()?;
        daemon.stop()?;
        it_connects_anew(host)
    })
}

/// Nothing keeps the connection, nor the blocks; what is written later is there.
fn it_connects_anew(host: &Arc<Host>) -> Result<()> {
    let place = place(host, &[], &[VM], false)?;
    let daemon = place.start()?;
    let guest = launch(OtherVmm::CloudHypervisor, host, |options| {
        options.disk = Some(daemon.socket(VM));
    })?;
    swap_on_disk(&guest)?;
    swaps_in_and_out(&guest, &daemon)?;
    guest.run(&format!("swapoff {DISK}"))?;
    daemon.kill()?;
    let daemon = place.start()?;
    guest.run(&format!("mkswap {DISK}"))?;
    guest.run(&format!("swapon --discard {DISK}"))?;
    swaps_in_and_out(&guest, &daemon)?;
    guest.ends()?;
    daemon.stop()
}

fn swaps_in_and_out(guest: &Guest<Other>, daemon: &Daemon) -> Result<()> {
    let mut job = guest.workload(LARGE, 1)?;
    job.filled()?;
    let pages = number(daemon, "persistent_pages")?;
    ensure!(pages > OVER * MIB, "the daemon has {pages} pages");
    job.order(Order::Verify)?;
    job.end()
}

#[test]
#[ignore = "needs a program that is in no package: see tests/README.md"]
fn cloud_hypervisor_has_the_native_device() -> Result<()> {
    with(OtherVmm::CloudHypervisor, "ch-native", |host| {
        let place = place(host, &["vm0"], &[], true)?;
        let daemon = place.start()?;
        let guest = launch(OtherVmm::CloudHypervisor, host, |options| {
            options.device = Some(daemon.socket("vm0"));
        })?;
        guest.swap_on()?;
        let mut job = guest.workload(LARGE, 1)?;
        job.filled()?;
        let pages = daemon.stats()?.number("/vms/vm0/persistent_pages")?;
        ensure!(pages >= OVER * MIB, "{pages} pages are there");
        job.order(Order::Verify)?;
        // The next one has the connection and the pages.
        daemon.kill()?;
        let daemon = place.start()?;
        job.order(Order::Churn)?;
        job.order(Order::Verify)?;
        job.end()?;
        bed::nothing_lost(&guest)?;
        ensure!(guest.counter("reattaches")? == 0);
        guest.ends()?;
        daemon.stop()
    })
}

#[test]
#[ignore = "needs a program that is in no package: see tests/README.md"]
fn firecracker_has_a_disk() -> Result<()> {
    with(OtherVmm::Firecracker, "fc-disk", |host| {
        let place = place(host, &[], &[VM], true)?;
        let daemon = place.start()?;
        let guest = launch(OtherVmm::Firecracker, host, |options| {
            options.disk = Some(daemon.socket(VM));
        })?;
        guest.run("modprobe virtio_mmio")?;
        swap_on_disk(&guest)?;
        let daemon = over_kills(&place, daemon, &guest, LARGE, OVER)?;
        guest.run(&format!("swapoff {DISK}"))?;
        guest.ends()?;
        daemon.stop()
    })
}

/// Does `work` on a machine where the VMM is installed, whose program the environment names.
fn with(vmm: OtherVmm, name: &str, work: impl Fn(&Arc<Host>) -> Result<()>) -> Result<()> {
    on_host(&vmm.machine(name)?, |host| {
        let version = vmm.install(host)?;
        eprintln!("{}", version.lines().next().context("it has no version")?);
        work(host)
    })
}

fn place(
    host: &Arc<Host>,
    vms: &[&'static str],
    disks: &[&'static str],
    kept: bool,
) -> Result<DaemonPlace> {
    DaemonPlace::new(
        host,
        DaemonOptions {
            vms: vms.to_vec(),
            disks: disks.to_vec(),
            quota: "512M",
            swap_size: "1G",
            memory_limit: "768M",
            kept,
            ..DaemonOptions::default()
        },
    )
}

fn launch(
    vmm: OtherVmm,
    host: &Arc<Host>,
    set: impl FnOnce(&mut OtherOptions),
) -> Result<Guest<Other>> {
    let mut options = OtherOptions {
        name: "inner".into(),
        memory_mib: MEMORY,
        cpus: 1,
        disk: None,
        device: None,
    };
    set(&mut options);
    Guest::launch_in(vmm, &bed::assets()?, host, &options)
}

fn swap_on_disk(guest: &Guest<Other>) -> Result<()> {
    guest.run("modprobe virtio_blk")?;
    until("/dev/vda with a size", APPEARS, || {
        let size = guest.read("/sys/block/vda/size").unwrap_or_default();
        Ok((size.trim().parse::<u64>().unwrap_or(0) > 0).then_some(()))
    })?;
    guest.run(&format!("swapon --discard {DISK}")).map(drop)
}
