// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a stock guest executes for a page: instructions, which no other work on this machine changes.
//!
//! CPUs, one unless more are asked for, are emulated by QEMU, whose plugin counts. Copies and what
//! is repeated by one instruction count once, so this is what drivers, the block layer and the
//! kernel's memory management do beside moving bytes; zram's compression, which is the guest's own
//! work, is in it.

mod counter;
mod filter;
mod profile;
mod swap;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tmem_e2e::{Assets, Daemon, DaemonOptions, Drive, Guest, GuestOptions};

use self::counter::{Counter, Spent};
use crate::report::Report;
use crate::samples::median;

/// RAM of the guest, in MiB.
const MEMORY_MIB: u64 = 384;

/// Size of disks, in MiB: more than is swapped out or read.
const DISK_MIB: u64 = 192;

/// Rounds, for medians.
const ROUNDS: usize = 5;
const QUICK_ROUNDS: usize = 2;

/// For a script in the guest.
const LIMIT: Duration = Duration::from_secs(300);

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Of instructions: the plugin for QEMU.
    #[arg(long, value_name = "PATH", default_value = "libtmem_counter.so")]
    counter: PathBuf,
    /// Of instructions: also write to this file in which functions of the kernel they are.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Of instructions: CPUs of the guest.
    #[arg(long, value_name = "N", default_value_t = 1)]
    cpus: u32,
    /// Of instructions: with the classic LRU, not the multi-generational one.
    #[arg(long)]
    classic_lru: bool,
}

/// A guest whose instructions are counted.
struct Counted {
    guest: Guest,
    counter: Counter,
}

impl Counted {
    fn sh(&self, script: &str) -> Result<String> {
        self.guest.sh_within(script, LIMIT)
    }
}

/// What was counted of one thing, round by round, for a page.
#[derive(Default)]
struct Row {
    name: String,
    counts: Vec<f64>,
    /// Those of the last round by where they are, if that is asked for.
    places: HashMap<u64, f64>,
}

impl Row {
    fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// One more round.
    fn push(&mut self, spent: Spent) {
        self.counts.push(spent.count);
        self.places = spent.places;
    }

    fn median(&self) -> f64 {
        median(self.counts.clone()).unwrap_or(f64::NAN)
    }

    /// How far rounds are apart, as a part of the median.
    fn spread(&self) -> f64 {
        let most = self.counts.iter().copied().fold(f64::MIN, f64::max);
        let least = self.counts.iter().copied().fold(f64::MAX, f64::min);
        (most - least) / self.median()
    }
}

/// Counts, and writes the metrics to `json`, too.
pub(crate) fn run(args: &Args, quick: bool, json: Option<&Path>) -> Result<()> {
    let assets = Assets::from_environment()?;
    let work = tempfile::tempdir().context("cannot make a directory")?;
    let daemon = Daemon::start(&assets, &DaemonOptions::default())?;
    let image = work.path().join("disk");
    let file = std::fs::File::create(&image).context("cannot make a disk")?;
    file.set_len(DISK_MIB << 20)?;
    let socket = work.path().join("counter");
    let guest = Guest::boot(
        &assets,
        GuestOptions {
            name: "instructions".into(),
            memory_mib: MEMORY_MIB,
            cpus: args.cpus,
            device: Some(daemon.socket("vm0")),
            drives: vec![Drive::new(image.clone())],
            storage: true,
            plugin: Some((args.counter.clone(), format!("socket={}", socket.display()))),
            ..GuestOptions::default()
        },
    )?;
    let counted = Counted {
        guest,
        counter: Counter::new(socket, args.profile.is_some()),
    };
    counted.guest.load_module()?;
    counted.guest.disk_appears()?;
    counted.guest.virtio_disk_appears()?;
    if args.classic_lru {
        counted.sh("echo 0 >/sys/kernel/mm/lru_gen/enabled")?;
    }
    let rounds = if quick { QUICK_ROUNDS } else { ROUNDS };

    let mut report = Report::default();
    let mut rows = swap::count(&counted, rounds, &mut report)?;
    rows.extend(filter::count(&counted, rounds, &mut report)?);
    if let Some(to) = &args.profile {
        profile::write(to, &counted, &image, &rows)?;
    }
    counted.guest.power_off()?;
    daemon.stop()?;
    report.print();
    if let Some(json) = json {
        report.write_json(json)?;
    }
    Ok(())
}

/// Says a row beside another one, unless it is that.
fn say(report: &mut Report, what: &str, row: &Row, beside: Option<&Row>) {
    let name = format!("{what}: {}", row.name);
    match beside {
        Some(other) if other.name != row.name => {
            report.against(name, row.median(), "instr.", &other.name, other.median());
        }
        _ => report.metric(name, row.median(), "instr."),
    }
    report.note(format!(
        "{what}: {}: rounds are {:.1} % apart",
        row.name,
        row.spread() * 100.0
    ));
}
