// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask demo`: a stock guest with too little memory, first without and
//! then with the module.

use crate::assets;
use crate::assets::Guests;
use crate::programs::Profile;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::Host;
use tmem_e2e::HostOptions;
use tmem_e2e::Job;
use tmem_e2e::Machine;
use tmem_e2e::Stats;
use tmem_e2e::VmOptions;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// SIGKILL: what the kernel ends a program with when memory runs out.
const KILLED: i32 = 9;

/// The VM's name at the daemon.
const VM: &str = "demo";

/// For the daemon to compress at most 64 MiB, and to clean what pages that came and went
/// have left.
const SETTLED: Duration = Duration::from_secs(120);

/// What is held for pages is at most so much more than their content takes, in percent:
/// headers, index, and room at the end of segments.
const OVERHEAD: u64 = 8;

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The guest's RAM in MiB; the program needs three times as much.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(160..=2048))]
    memory: u64,
}

/// `cargo xtask demo`.
pub(crate) fn command(options: &Options) -> Result<()> {
    let guests = if Host::is_virtualised() {
        Guests::Vmm
    } else {
        Guests::Small
    };
    let assets = assets::make(Profile::Release, guests)?;
    let memory = options.memory;
    println!();

    let daemon = Daemon::start(
        &assets,
        &DaemonOptions {
            vms: vec![VM],
            quota: "8G",
            swap_size: "8G",
            memory_limit: "8G",
            ..DaemonOptions::default()
        },
    )?;
    println!("started vhost-user-tmem, process {}", daemon.pid());
    let start = Instant::now();
    if Host::is_virtualised() {
        println!("this machine's KVM runs stock kernels: the guest is tmem-vmm's");
        let host = Host::with_kvm(&assets, HostOptions::default())?;
        let options = VmOptions {
            name: VM.into(),
            memory_mib: memory,
            cpus: 2,
            tmem: Some(format!("socket={}", daemon.socket(VM).display())),
            ..VmOptions::default()
        };
        let guest = Guest::launch(&assets, &host, &options)?;
        show(guest, &daemon, start, memory)?;
    } else {
        println!(
            "this machine's KVM cannot run stock kernels: the guest is QEMU's, on an emulated CPU"
        );
        let options = GuestOptions {
            name: VM.into(),
            memory_mib: memory,
            device: Some(daemon.socket(VM)),
            ..GuestOptions::default()
        };
        let guest = Guest::boot(&assets, options)?;
        show(guest, &daemon, start, memory)?;
    }
    daemon.stop()
}

/// Shows what `guest`, started at `start`, does without and with the module.
fn show<M: Machine>(guest: Guest<M>, daemon: &Daemon, start: Instant, memory: u64) -> Result<()> {
    let need = 3 * memory;
    let kernel = guest.run("busybox uname -r")?;
    println!(
        "booted the stock kernel {} with {memory} MiB in {:.1} s",
        kernel.trim(),
        start.elapsed().as_secs_f32()
    );

    println!("\nwithout the module: a program fills {need} MiB");
    let mut job = watched(guest.workload(need, 1)?);
    match job.outcome()? {
        Err(ended) if ended.signal == Some(KILLED) => {
            println!("  the kernel killed it: {}", last_words(&guest));
        }
        other => bail!("{memory} MiB of memory should not hold {need} MiB, but: {other:?}"),
    }

    println!("\nwith the module:");
    guest.load_module()?;
    guest.disk_appears()?;
    println!("  modprobe virtio_tmem");
    for line in ["mkswap /dev/tmem0", "swapon /dev/tmem0"] {
        println!("  {line}");
        guest.run(line)?;
    }
    println!("the same program fills {need} MiB and checks every page");
    let start = Instant::now();
    let mut job = watched(guest.workload(need, 2)?);
    let filled = job.filled()?;
    let filling = start.elapsed();
    println!("  filled; now every page is read and checked");
    job.tell(Order::Verify)?;
    let checked = job.checked()?;
    let time = start.elapsed();

    // What was put last is compressed a moment later, and then what is dead is cleaned.
    let (stats, content) = until("the daemon to hold what the content takes", SETTLED, || {
        let stats = daemon.stats()?;
        let content = content(&stats)?;
        let held = stats.number(&format!("/vms/{VM}/held_bytes"))?;
        Ok((held <= content + content * OVERHEAD / 100).then_some((stats, content)))
    })?;
    let vm = |name: &str| stats.number(&format!("/vms/{VM}/{name}"));
    let pages = vm("persistent_pages")?;
    let held = vm("held_bytes")?;
    let rows = [
        ("pages checked", format!("{}, all right", checked.pages)),
        ("pages put", vm("puts")?.to_string()),
        ("pages got", vm("get_hits")?.to_string()),
        (
            "pages with the host now",
            format!("{pages} ({})", mib(pages * 4096)),
        ),
        (
            "host memory held for them",
            format!("{}, bookkeeping included", mib(held)),
        ),
        (
            "compression ratio",
            format!(
                "{}; {} without bookkeeping",
                ratio(pages * 4096, held),
                ratio(pages * 4096, content)
            ),
        ),
        (
            "guest major faults",
            (filled.major_faults + checked.major_faults).to_string(),
        ),
        (
            "time",
            format!(
                "{:.1} s to fill, {:.1} s to check",
                filling.as_secs_f32(),
                (time - filling).as_secs_f32()
            ),
        ),
    ];
    println!();
    for (name, value) in rows {
        println!("  {name:<26} {value}");
    }
    println!();
    job.end().context("the program did not end well")?;
    guest.power_off()
}

/// Bytes of the pages as they are kept, without headers, index and room.
fn content(stats: &Stats) -> Result<u64> {
    let vm = |name: &str| stats.number(&format!("/vms/{VM}/{name}"));
    let whole = vm("raw_pages")? + vm("deferred_pages")?;
    Ok(vm("compressed_bytes")? + vm("same_filled_pages")? * 8 + whole * 4096)
}

/// Shows how far the program is, each tenth of the way.
fn watched(job: Job) -> Job {
    let mut tenths = 0;
    job.with_progress(move |pages, of| {
        let now = pages * 10 / of.max(1);
        if now < tenths {
            tenths = 0;
        }
        if now > tenths {
            tenths = now;
            println!("  {:>3} %", now * 10);
        }
    })
}

/// The kernel's line about the killed program.
fn last_words<M: Machine>(guest: &Guest<M>) -> String {
    let log = guest.console();
    let line = log.lines().rfind(|line| line.contains("Killed process"));
    line.unwrap_or("out of memory").trim().to_string()
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// How many times `bytes` is `held`, with two decimals.
fn ratio(bytes: u64, held: u64) -> String {
    match (bytes * 100).checked_div(held) {
        Some(hundredths) => format!("{}.{:02}", hundredths / 100, hundredths % 100),
        None => "nothing held".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_two_decimals() {
        assert_eq!(ratio(3 << 20, 2 << 20), "1.50");
        assert_eq!(ratio(205, 100), "2.05");
        assert_eq!(ratio(1, 0), "nothing held");
    }
}
