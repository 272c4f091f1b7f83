// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Swap areas that are in use before the module is there.

use crate::bed;
use crate::filter::control;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::Image;
use tmem_e2e::protocol::Order;

/// The swap partition.
const SWAP: &str = "/dev/vda1";

/// RAM of the guest in MiB; a quarter of it is the kernel and its programs.
const MEMORY: u64 = 192;

/// What is written in the middle of a round: the daemon must have some of it.
const SOME: u64 = 8 * bed::MIB;

/// How much is done.
pub(super) struct Plan {
    pub(super) name: &'static str,
    /// The program's memory in MiB.
    pub(super) mib: u64,
    /// Times that the filter is attached and detached.
    pub(super) rounds: u32,
    pub(super) filter: bool,
}

/// A program finds every page as it left it while its swap area gets a filter,
/// and loses it again, both while pages go out and come in.
pub(super) fn run(plan: &Plan) -> Result<()> {
    let image = Image::partitioned(plan.mib + 72, plan.mib + 64)?;
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = Guest::boot(
        &bed::assets()?,
        GuestOptions {
            name: plan.name.into(),
            memory_mib: MEMORY,
            device: plan.filter.then(|| daemon.socket("vm0")),
            drives: vec![Drive::new(image.path())],
            storage: true,
            ..GuestOptions::default()
        },
    )?;
    guest.run("modprobe virtio_blk")?;
    guest.run(&format!("mkswap {SWAP}"))?;
    guest.run(&format!("swapon {SWAP}"))?;
    let mut job = guest.workload(plan.mib, 1)?;
    job.filled()?;
    if plan.filter {
        guest.load_module()?;
        guest.disk_appears()?;
    }
    for round in 0..plan.rounds {
        // Pages that went out before are on the disk, and stay there.
        job.tell(Order::Churn)?;
        job.moves()?;
        if plan.filter {
            control::attach(&guest, SWAP, "preswap")?;
        }
        job.checked()?;
        if plan.filter {
            job.order(Order::Churn)?;
            let pages = daemon.stats()?.number("/vms/vm0/persistent_pages")?;
            println!("round {round}: {pages} pages are with the daemon");
            ensure!(pages > SOME, "the daemon has only {pages} pages");
        }
        job.tell(Order::Churn)?;
        job.moves()?;
        if plan.filter {
            control::detach(&guest, SWAP)?;
        }
        job.checked()?;
        job.order(Order::Verify)?;
        if plan.filter {
            bed::settles(&daemon, "/vms/vm0/persistent_pages", |pages| pages == 0)?;
        }
    }
    if plan.filter {
        // At last it is swapped off with its filter on it.
        control::attach(&guest, SWAP, "preswap")?;
        job.order(Order::Churn)?;
    }
    job.end()?;
    guest.run(&format!("swapoff {SWAP}"))?;
    if plan.filter {
        ensure!(
            control::total(&guest, "errors")? == 0,
            "the filter counts errors"
        );
        control::detach(&guest, SWAP)?;
        bed::nothing_lost(&guest)?;
        guest.run("rmmod virtio_tmem")?;
        bed::settles(&daemon, "/vms/vm0/persistent_pages", |pages| pages == 0)?;
    }
    guest.power_off()?;
    daemon.stop()
}

#[test]
#[ignore = "a control: cargo xtask e2e without_a_filter --ignored"]
fn without_a_filter_a_swap_partition_keeps_every_page() -> Result<()> {
    run(&Plan {
        name: "bare-swap",
        mib: 224,
        rounds: 1,
        filter: false,
    })
}

#[test]
fn a_swap_partition_in_use_gets_a_filter_and_loses_it_again() -> Result<()> {
    run(&Plan {
        name: "preswap",
        mib: 128,
        rounds: 1,
        filter: true,
    })
}
