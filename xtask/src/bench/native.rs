// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask bench native`: the module in a guest whose kernel runs at this machine's speed.

use crate::archive::Archive;
use crate::archive::CHARACTER_DEVICE;
use crate::archive::DIRECTORY;
use crate::archive::FILE;
use crate::archive::PROGRAM;
use crate::bench;
use crate::exec;
use crate::host;
use crate::programs;
use crate::programs::Profile;
use crate::project;
use crate::roots;
use crate::setup;
use crate::uml_kernel;
use crate::uml_kernel::Flavour;
use anyhow::Context;
use anyhow::Result;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The module of this checkout, and another one, in the guest.
const MODULE: &str = "lib/virtio_tmem.ko";
const OLDER: &str = "lib/older.ko";

/// What an older module goes by; the benchmark has a target for it.
const OLDER_NAME: &str = "older module";

/// Options of `cargo xtask bench native`.
#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Options {
    /// Of `native`: measure the module with these parameters, too, as in
    /// "precache_eager=1 settle_seconds=5"; may be given many times.
    #[arg(long, value_name = "PARAMETERS")]
    module_params: Vec<String>,
    /// Of `native`: measure the module of another tree, too: the directory `guest` of an older
    /// checkout.
    #[arg(long, value_name = "DIR")]
    older_module: Option<PathBuf>,
    /// Of `native`: an option of the daemon, as in "--poll-max=0"; may be given many times.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    daemon_option: Vec<String>,
    /// Of `native`: how often everything is measured [default: 7].
    #[arg(long)]
    rounds: Option<u64>,
    /// Of `native`: only pages of raw disks, or only files.
    #[arg(long, value_parser = ["raw", "files"])]
    part: Option<String>,
}

/// Measures it.
pub(super) fn run(options: &bench::Options) -> Result<()> {
    let own = &options.native;
    let setup = setup::ensure(false)?;
    let root = roots::checkers(&setup.cache, &setup.versions)?;
    let kernel = uml_kernel::make(&setup.cache, &root, &setup.versions, Flavour::Native)?;
    let build = |tree: &Path, name| kernel.module(&setup.cache, &root, tree, name);
    let mut modules = vec![(MODULE, build(&project::root().join("guest"), "module")?)];
    let mut variants = vec![format!("tmem=/{MODULE}")];
    for parameters in &own.module_params {
        variants.push(format!("{parameters}=/{MODULE}:{parameters}"));
    }
    if let Some(tree) = &own.older_module {
        modules.push((OLDER, build(tree, "older")?));
        variants.push(format!("{OLDER_NAME}=/{OLDER}"));
    }
    println!("building the daemon and what runs in the guest");
    let daemon = programs::daemon(Profile::Release)?;
    let probe = programs::linked_statically("release", &["tmem-probe"])?.join("probe");
    let tmemctl = programs::tmemctl()?;
    let initramfs = project::made()?.join("native.cpio");
    write_initramfs(&probe, &tmemctl, &modules, &initramfs)?;

    let mut bench = Command::new(bench::program()?);
    bench
        .args(["--only", "native", "--daemon"])
        .arg(daemon)
        .arg("--linux")
        .arg(kernel.program())
        .arg("--guest-initramfs")
        .arg(initramfs)
        .arg("--files")
        .arg(setup.build.file("usr/lib"))
        .arg("--mke2fs")
        .arg(host::on_path("mke2fs").context("mke2fs is not installed")?);
    bench::add_words(&mut bench, &setup, "storage-daemon", "qemu-storage-daemon");
    for variant in variants {
        bench.args(["--variant", &variant]);
    }
    for option in &own.daemon_option {
        bench.arg("--daemon-option").arg(option);
    }
    if let Some(part) = &own.part {
        bench.args(["--part", part]);
    }
    if let Some(rounds) = own.rounds {
        bench.args(["--rounds", &rounds.to_string()]);
    }
    if options.quick {
        bench.arg("--quick");
    }
    if let Some(json) = &options.json {
        bench.arg("--json").arg(json);
    }
    // Others may use the cache meanwhile.
    drop(setup);
    exec::shown(&mut bench)
}

/// The guest's programs are linked statically.
fn write_initramfs(
    probe: &Path,
    tmemctl: &Path,
    modules: &[(&str, PathBuf)],
    to: &Path,
) -> Result<()> {
    let mut archive = Archive::default();
    archive.add("dev/console", CHARACTER_DEVICE, Some((5, 1)), &[])?;
    for name in [
        "proc", "sys", "run", "mnt", "bin", "lib", "config", "cgroup",
    ] {
        archive.add(name, DIRECTORY, None, &[])?;
    }
    archive.file("init", PROGRAM, probe)?;
    archive.file("bin/tmemctl", PROGRAM, tmemctl)?;
    for (name, module) in modules {
        archive
            .file(name, FILE, module)
            .with_context(|| format!("cannot add {}", module.display()))?;
    }
    archive.finish(to)
}
