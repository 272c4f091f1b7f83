// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask bench`: what the store, the daemon and the VMM cost, beside their
//! peers, and what filters are good for.

mod aging;
mod dead;
mod density;
mod guest;
mod instructions;
mod native;
mod parts;
mod restart;
mod toolchain;

use crate::assets;
use crate::assets::Guests;
use crate::exec;
use crate::programs;
use crate::programs::Profile;
use crate::project;
use crate::setup;
use crate::setup::Setup;
use anyhow::Result;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tmem_e2e::Host;
use tmem_e2e::HostOptions;

/// Starts in an outer guest, for a median.
const NESTED_STARTS: usize = 5;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to measure; if not given, everything but `aging`: what a page costs
    /// as the store ages, `costs`: what filters, histograms and a keeper cost the daemon,
    /// `noisy`: a VM beside a noisy and a hostile one, `restart`: the daemon is killed under
    /// load, `guest`: filters
    /// on the disks of guests, which takes a quarter of an hour on an emulated CPU, and
    /// `density`: guests in too little memory, which takes longer, `dead`: pages that
    /// the store keeps for guests that use them no more, which takes minutes, `native`: what
    /// the module costs in a guest that is not emulated, which builds a kernel first,
    /// `instructions`: what a guest executes for a page, which takes some minutes, `spill`: a store
    /// that has memory for a tenth of its pages, `remote`: the same, with a Valkey cluster, `saved`: all pages of a VM, saved and restored, `shared`: guests that
    /// read copies of one image, and `scale`: a store with thousands of VMs.
    #[arg(value_parser = [
        "store", "aging", "vhost", "costs", "noisy", "vmm", "restart", "guest", "density", "dead", "native",
        "instructions", "spill", "remote", "saved", "shared", "scale",
    ])]
    only: Option<String>,
    /// Also write the metrics to this file, as a JSON list.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Of `store`, `aging`, `vhost`, `costs` and `noisy`: pages of each sort (process memory, files)
    /// to measure with.
    #[arg(long)]
    pages: Option<u64>,
    /// Of `aging`, `noisy`, `restart`, `guest`, `density`, `native` and `instructions`: less of
    /// everything, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Of `guest`: only the limited disk, and no builds, in half of the time.
    #[arg(long, conflicts_with = "quick")]
    reads: bool,
    /// Of `aging` and `density`: the directory of density.md, in which a section is made
    /// anew, and of its pictures [default of `density`: docs]. Of `restart`: that of restart.md.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    aging: aging::Options,
    #[command(flatten)]
    density: density::Options,
    #[command(flatten)]
    restart: restart::Options,
    #[command(flatten)]
    native: native::Options,
    #[command(flatten)]
    instructions: instructions::Options,
}

/// `cargo xtask bench`.
pub(crate) fn command(options: &Options) -> Result<()> {
    if options.only.as_deref() == Some("aging") {
        return aging::run(options);
    }
    if let Some(part @ ("costs" | "noisy" | "spill" | "remote" | "saved" | "shared" | "scale")) =
        options.only.as_deref()
    {
        return parts::run(part, options);
    }
    if options.only.as_deref() == Some("restart") {
        return restart::run(options);
    }
    if options.only.as_deref() == Some("guest") {
        return guest::run(options.quick, options.reads, options.json.as_deref());
    }
    if options.only.as_deref() == Some("dead") {
        return dead::run();
    }
    if options.only.as_deref() == Some("native") {
        return native::run(options);
    }
    if options.only.as_deref() == Some("instructions") {
        return instructions::run(options);
    }
    if options.only.as_deref() == Some("density") {
        return density::run(options);
    }
    // First, because it sets up for itself.
    let wanted = options.only.as_deref().is_none_or(|only| only == "vmm");
    let nested = match wanted && !Host::is_virtualised() {
        true => nested_starts().unwrap_or_else(|error| {
            // The rest is worth having.
            println!("the VMM in an outer guest is left out: {error:#}");
            Vec::new()
        }),
        false => Vec::new(),
    };
    let setup = setup::ensure(false)?;
    println!("building the daemon and the VMM");
    let daemon = programs::daemon(Profile::Release)?;
    exec::shown(project::cargo().args(["build", "--release", "--package", "tmem-vmm"]))?;

    let mut bench = Command::new(program()?);
    bench.arg("--daemon").arg(&daemon);
    bench.arg("--vmm").arg(daemon.with_file_name("tmem-vmm"));
    if Host::is_virtualised() {
        bench.arg("--stock-kernel").arg(&setup.kernel);
    }
    for start in nested {
        let millis = start.as_secs_f64() * 1e3;
        bench.args(["--nested-start", &millis.to_string()]);
    }
    add_words(&mut bench, &setup, "storage-daemon", "qemu-storage-daemon");
    add_words(&mut bench, &setup, "qemu", "qemu-system-x86_64");
    for dir in assets::qemu_data(&setup) {
        bench.arg("--qemu=-L");
        bench.arg(concat("--qemu=", dir.into_os_string()));
    }
    if let Some(only) = &options.only {
        bench.args(["--only", only]);
    }
    if let Some(json) = &options.json {
        bench.arg("--json").arg(json);
    }
    if let Some(pages) = options.pages {
        bench.args(["--pages", &pages.to_string()]);
    }
    exec::shown(&mut bench)
}

/// Builds the benchmarks; gives back their program.
fn program() -> Result<PathBuf> {
    println!("building the benchmarks");
    exec::shown(project::cargo().args(["build", "--release", "--package", "tmem-bench"]))?;
    Ok(project::target()?.join("release/tmem-bench"))
}

/// Times from the VMM's start to the first line of a stock kernel, in an outer
/// guest, because this machine's KVM cannot run one.
fn nested_starts() -> Result<Vec<Duration>> {
    let assets = assets::make(Profile::Release, Guests::Vmm)?;
    println!(
        "starting the VMM {NESTED_STARTS} times in an outer guest: this machine's KVM cannot run \
         stock kernels"
    );
    let options = HostOptions {
        name: "bench".into(),
        ..HostOptions::default()
    };
    Host::used_by(&assets, &options, |host| {
        let starts = (0..NESTED_STARTS).map(|_| host.time_to_first_line());
        starts.collect()
    })
}

/// Gives the benchmark a program of QEMU's root, word by word.
fn add_words(bench: &mut Command, setup: &Setup, option: &str, program: &str) {
    let (loader, words) = setup.qemu.loaded(&format!("usr/bin/{program}"));
    for word in std::iter::once(loader.into_os_string()).chain(words) {
        bench.arg(concat(&format!("--{option}="), word));
    }
}

fn concat(head: &str, tail: OsString) -> OsString {
    let mut whole = OsString::from(head);
    whole.push(tail);
    whole
}
