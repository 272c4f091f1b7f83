// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Our VMM: how long it takes to start a guest, what it costs in memory, and
//! where requests to its store are best served. With a guest of a few dozen
//! instructions, so that it runs on any KVM; a stock kernel where one can run,
//! which elsewhere is measured in an outer guest by who starts us.

mod guest;
mod process;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use self::guest::{Requests, Said};
use self::process::Running;
use crate::report::Report;
use crate::samples;

/// Guests that are started for a median.
const STARTS: usize = 9;

/// Requests of each sort for a rate.
const REQUESTS: u32 = 20_000;

/// What the project wants.
const MOST_MEMORY_MIB: f64 = 20.0;
const MOST_START_MS: f64 = 150.0;

/// Memory of a guest, which does not count.
const GUEST_MIB: &str = "256M";

/// The VMM and its peer.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Our VMM.
    #[arg(long, value_name = "PROGRAM")]
    vmm: Option<PathBuf>,
    /// A stock kernel, an ELF file, where this machine's KVM can run it.
    #[arg(long, value_name = "FILE")]
    stock_kernel: Option<PathBuf>,
    /// A time to a stock kernel's first line that was measured where KVM itself
    /// is emulated, in ms; once for each start.
    #[arg(long, value_name = "MS")]
    nested_start: Vec<f64>,
    /// QEMU; once for each word of the command, if it takes several.
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    qemu: Vec<std::ffi::OsString>,
}

/// Measures it.
pub(crate) fn run(args: &Args, report: &mut Report) -> Result<()> {
    let Some(vmm) = &args.vmm else {
        report.note("no VMM given: it is left out");
        return Ok(());
    };
    first_line(args, vmm, report)?;
    if let Err(error) = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        report.note(format!(
            "/dev/kvm cannot be used ({error}): the rest of the VMM is left out"
        ));
        return Ok(());
    }
    let dir = tempfile::tempdir().context("cannot make a directory")?;
    let idle = dir.path().join("idle.elf");
    std::fs::write(&idle, guest::idle()).context("cannot write a guest's program")?;

    let mut starts = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let mut running = Running::start(vmm, &idle, GUEST_MIB, &["--tmem", "quota=1G"])?;
        running.says(Said::Up)?;
        starts.push(millis(start.elapsed()));
        resident.push(running.resident_mib()?);
    }
    let start = median(starts)?;
    report.metric("tmem-vmm, start to a guest's first word", start, "ms");
    let memory = median(resident)?;
    match process::qemu_resident_mib(&args.qemu, GUEST_MIB) {
        Ok(peer) => report.against(
            "tmem-vmm, resident without guest memory",
            memory,
            "MiB",
            "QEMU microvm, idle",
            peer,
        ),
        Err(error) => {
            report.metric("tmem-vmm, resident without guest memory", memory, "MiB");
            report.note(format!("QEMU is left out: {error:#}"));
        }
    }
    report.limit("tmem-vmm, resident", memory, "MiB", MOST_MEMORY_MIB);
    serve(vmm, dir.path(), report)
}

fn median(values: Vec<f64>) -> Result<f64> {
    samples::median(values).context("nothing was measured")
}

/// Start to the first line of a stock kernel.
fn first_line(args: &Args, vmm: &Path, report: &mut Report) -> Result<()> {
    if let Some(kernel) = &args.stock_kernel {
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            starts.push(millis(tmem_agent::first_line::time(vmm, kernel)?));
        }
        let start = median(starts)?;
        report.metric("tmem-vmm, start to the first kernel line", start, "ms");
        report.limit("tmem-vmm, first kernel line", start, "ms", MOST_START_MS);
        return Ok(());
    }
    let starts = args.nested_start.clone();
    let nested = match samples::median(starts) {
        Some(start) => {
            report.metric("tmem-vmm, first kernel line, nested", start, "ms");
            "nested: KVM inside QEMU's TCG, which is many times slower; compare no times with other \
             machines"
        }
        None => "the time to the first kernel line is left out",
    };
    report.note(format!(
        "{nested}. The target below {MOST_START_MS} ms needs a KVM with hardware behind it, which \
         this machine does not have"
    ));
    Ok(())
}

/// Puts and gets of one page each, one after the other, on the vCPU's own
/// thread and on another.
fn serve(vmm: &Path, dir: &Path, report: &mut Report) -> Result<()> {
    let program = dir.join("requests.elf");
    let requests = Requests { count: REQUESTS };
    std::fs::write(&program, requests.program()).context("cannot write a guest's program")?;
    let mut rates = Vec::new();
    for mode in ["vcpu", "thread"] {
        let (mut puts, mut gets) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let tmem = format!("quota=64M,serve={mode}");
            let mut running = Running::start(vmm, &program, GUEST_MIB, &["--tmem", &tmem])?;
            running.says(Said::Up)?;
            for times in [&mut puts, &mut gets] {
                let start = Instant::now();
                running.says(Said::Done)?;
                times.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(REQUESTS));
            }
            ensure!(running.ends_well()?, "the guest did not find its page");
        }
        rates.push((median(puts)?, median(gets)?));
    }
    if let [vcpu, thread] = rates[..] {
        for (what, here, there) in [("put", vcpu.0, thread.0), ("get", vcpu.1, thread.1)] {
            let name = format!("{what} of a page from a guest, serve=vcpu");
            report.against(name, here, "µs", "serve=thread", there);
        }
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
