// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon is killed while stock guests swap to it. QEMU's generic device cannot connect anew:
//! its character device has no `reconnect-ms`, and it ends the device when the socket closes.
//!
//! `cargo xtask soak --guests --kills N` does the same for long.

use crate::bed;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Guest;
use tmem_e2e::Host;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// Memory of a guest and of the program in it, in MiB.
const MEMORY: u64 = 160;
const LOAD: u64 = 224;

/// Kills, and from which number their moments follow; `cargo xtask soak` sets them.
const KILLS: &str = "TMEM_KILLS";
const SEED: &str = "TMEM_SEED";
const FEW: u64 = 6;

/// How often it is said how far it is.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The longest time from a look at the daemon to its end, in microseconds.
const PAUSE: u64 = 300_000;

/// For every guest to swap with the daemon, on busy emulated CPUs.
const USED: Duration = Duration::from_secs(300);

/// For the kernel to say what it says at once.
const SAID: Duration = Duration::from_secs(60);

/// What the kernel's messages about swap, the device and its pages have in them.
const OURS: &[&str] = &["tmem", "virtio", "swap", "I/O error", "Out of memory"];

#[test]
#[ignore = "as two guests: cargo xtask soak --guests --kills N"]
fn a_guest_notices_nothing() -> Result<()> {
    kills(&["restarted"], Module::PLAIN)
}

#[test]
fn two_guests_notice_nothing() -> Result<()> {
    kills(&["first", "second"], Module::PLAIN)
}

/// How guests have the module.
#[derive(Clone, Copy)]
pub(crate) struct Module {
    /// Its parameters.
    pub(crate) parameters: &'static str,
    /// What is to hold in the end, beside that nothing is lost.
    pub(crate) check: fn(&Guest) -> Result<()>,
}

impl Module {
    const PLAIN: Self = Self {
        parameters: "",
        check: |_| Ok(()),
    };
}

/// A guest for each name, with the daemon killed and started again.
pub(crate) fn kills(names: &[&'static str], module: Module) -> Result<()> {
    let count = number(KILLS)?.unwrap_or(FEW);
    let seed = number(SEED)?.unwrap_or_else(|| fastrand::u64(..1 << 32));
    eprintln!("{count} kills, seed {seed}");
    let place = DaemonPlace::new(
        &Host::here(&bed::assets()?)?,
        DaemonOptions {
            vms: names.to_vec(),
            kept: true,
            ..DaemonOptions::default()
        },
    )?;
    let daemon = place.start()?;
    let guests = boot(names, &daemon)?;
    let mut said = Vec::new();
    for guest in &guests {
        guest.swap_on_with(module.parameters)?;
        guest.says("swap on /dev/tmem0", SAID)?;
        said.push((guest.console().len(), guest.machine_log()));
    }

    let over = AtomicBool::new(false);
    let (daemon, served) = std::thread::scope(|scope| {
        let (over, mut loads) = (&over, Vec::new());
        for (guest, seed) in guests.iter().zip(1..) {
            loads.push(scope.spawn(move || load(guest, seed, over)));
        }
        // A load that ends before has failed, and says why.
        let goes_on = || !loads.iter().any(|load| load.is_finished());
        let mut random = fastrand::Rng::with_seed(seed);
        let killed = kill(&place, daemon, names, count, &mut random, goes_on);
        over.store(true, Ordering::Relaxed);
        for load in loads {
            let load = load.join();
            load.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        killed
    })?;
    eprintln!("{served} requests were served before kills");

    for (guest, (console, log)) in guests.into_iter().zip(said) {
        bed::nothing_lost(&guest)?;
        (module.check)(&guest)?;
        let swaps = guest.read("/proc/swaps")?;
        ensure!(swaps.contains("/dev/tmem0"), "swap is off: {swaps}");
        for counter in ["reattaches", "failed_stores"] {
            let value = guest.counter(counter)?;
            ensure!(value == 0, "the guest counts {counter} = {value}");
        }
        ensure!(guest.machine_log() == log, "{}", guest.machine_log());
        let said = guest.console();
        let said = said.get(console..).context("the console is shorter")?;
        let noticed = |line: &&str| OURS.iter().any(|ours| line.contains(ours));
        let noticed: Vec<_> = said.lines().filter(noticed).collect();
        ensure!(noticed.is_empty(), "{}", noticed.join("\n"));
        guest.power_off()?;
    }
    daemon.stop()
}

fn number(variable: &str) -> Result<Option<u64>> {
    let value = std::env::var(variable).ok();
    let number = value.map(|value| value.parse()).transpose();
    number.with_context(|| format!("{variable} is no number"))
}

/// A guest for each VM, started at the same time.
fn boot(names: &[&'static str], daemon: &Daemon) -> Result<Vec<Guest>> {
    std::thread::scope(|scope| {
        let mut guests = Vec::new();
        for name in names {
            guests.push(scope.spawn(move || bed::guest(name, MEMORY, daemon, name)));
        }
        let joined = guests.into_iter().map(|guest| {
            let guest = guest.join();
            guest.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect()
    })
}

/// Fills memory, and reads and writes it until it is over; every page is compared.
fn load(guest: &Guest, seed: u64, over: &AtomicBool) -> Result<()> {
    let mut job = guest.workload(LOAD, seed)?;
    job.filled()?;
    while !over.load(Ordering::Relaxed) {
        job.order(Order::Churn)?;
    }
    job.order(Order::Verify)?;
    job.end()
}

/// Kills the daemon `count` times at random moments, each time after it has served every guest,
/// and starts the next one. Gives back the last, and how many requests the others have served.
fn kill(
    place: &DaemonPlace,
    mut daemon: Daemon,
    names: &[&'static str],
    count: u64,
    random: &mut fastrand::Rng,
    goes_on: impl Fn() -> bool,
) -> Result<(Daemon, u64)> {
    let mut served = 0;
    let mut said = Instant::now();
    for kill in 0..count {
        served += until("every guest to swap", USED, || {
            let requests = requests(&daemon, names)?;
            let all = requests.iter().all(|requests| *requests > 0);
            Ok((all || !goes_on()).then(|| requests.iter().sum::<u64>()))
        })?;
        if !goes_on() {
            break;
        }
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            let guests = names.join(", ");
            eprintln!("{guests}: {kill} of {count} kills, {served} requests served");
        }
        // At any moment of its work.
        std::thread::sleep(Duration::from_micros(random.u64(..PAUSE)));
        let log = daemon.log();
        ensure!(!log.contains("the connection ended"), "{log}");
        daemon.kill()?;
        daemon = place.start()?;
    }
    Ok((daemon, served))
}

/// Puts and gets that a daemon has served, for each guest.
fn requests(daemon: &Daemon, names: &[&'static str]) -> Result<Vec<u64>> {
    let stats = daemon.stats()?;
    let of = |name: &&str| -> Result<u64> {
        let put = stats.number(&format!("/vms/{name}/device/requests/put"))?;
        let get = stats.number(&format!("/vms/{name}/device/requests/get"))?;
        Ok(put + get)
    };
    names.iter().map(of).collect()
}
