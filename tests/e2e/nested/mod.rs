// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests of our own VMM. Where this machine's KVM cannot run a stock kernel,
//! the VMM runs in an outer guest on an emulated CPU that has SVM, so its
//! guests are slow: 15 s to boot, and one after the other. A test therefore
//! has one machine for the VMM, and several guests on it in turn.

mod disk;
mod huge_pages;
mod net;
mod others;
mod outer;
mod store;
mod swap_disk;
mod topology;
mod vhost_user;

use crate::bed;
use anyhow::Context;
use anyhow::Result;
use std::sync::Arc;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Guest;
use tmem_e2e::Host;
use tmem_e2e::HostOptions;
use tmem_e2e::Job;
use tmem_e2e::VmOptions;
use tmem_e2e::Vmm;
use tmem_e2e::protocol::Order;

/// RAM of a guest in MiB; the kernel and its first file system take half of it.
const MEMORY: u64 = 128;

/// And for each CPU beside the first, in MiB: the kernel has memory for each.
const PER_CPU: u64 = 8;

/// RAM of a guest whose kernel unpacks itself, in MiB: the packed kernel, the
/// unpacked one and the initramfs are there at the same time.
const PACKED_MEMORY: u64 = 256;

/// What a program needs that does not fit into it, and how much of it is in
/// swap at least, in MiB.
const LARGE: u64 = 88;
const OVER: u64 = 32;

/// Runs `test` on a machine for the VMM; on another one if the machine itself
/// broke.
fn on_host(options: &HostOptions, test: impl Fn(&Arc<Host>) -> Result<()>) -> Result<()> {
    Host::used_by(&bed::assets()?, options, test)
}

/// A machine for the VMM that is called `name`.
fn machine(name: &str) -> HostOptions {
    HostOptions {
        name: name.into(),
        ..HostOptions::default()
    }
}

/// A place for a daemon beside the VMM.
fn daemon(host: &Arc<Host>) -> Result<DaemonPlace> {
    DaemonPlace::new(
        host,
        DaemonOptions {
            quota: "512M",
            swap_size: "1G",
            memory_limit: "768M",
            ..DaemonOptions::default()
        },
    )
}

/// A guest of the VMM.
fn guest(host: &Arc<Host>, options: VmOptions) -> Result<Guest<Vmm>> {
    let name = options.name.clone();
    let memory = if options.packed {
        PACKED_MEMORY
    } else {
        MEMORY
    };
    let options = VmOptions {
        memory_mib: memory + PER_CPU * u64::from(options.cpus.saturating_sub(1)),
        ..options
    };
    Guest::launch(&bed::assets()?, host, &options).with_context(|| format!("the guest {name}"))
}

/// A program that needs more memory than the guest has; all of it is filled.
fn large_job(guest: &Guest<Vmm>, seed: u64) -> Result<Job> {
    let mut job = guest.workload(LARGE, seed)?;
    job.filled()?;
    Ok(job)
}

/// Every page of `job` is right, and no page was lost on the way.
fn ends_right(guest: &Guest<Vmm>, mut job: Job) -> Result<()> {
    job.order(Order::Verify)?;
    job.end()?;
    bed::nothing_lost(guest)
}
