// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A VMM as a process: what it prints, and the memory that it takes.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guest::Said;

/// Name of the guest's memory among a process's mappings, ours and QEMU's.
const GUEST_MEMORY: [&str; 2] = ["memfd:guest-memory", "memfd:memory-backend-memfd"];

/// For QEMU to come to rest.
const SETTLES: Duration = Duration::from_secs(10);

/// A running VMM; it is killed when this is dropped.
pub(super) struct Running {
    child: Child,
    output: ChildStdout,
}

impl Running {
    /// Starts our VMM with the guest's console as its output.
    pub(super) fn start(vmm: &Path, kernel: &Path, memory: &str, more: &[&str]) -> Result<Self> {
        let mut child = Command::new(vmm)
            .arg("--kernel")
            .arg(kernel)
            .args(["--memory", memory])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the VMM")?;
        let output = child.stdout.take().context("the VMM has no output")?;
        Ok(Self { child, output })
    }

    /// Waits for a byte of the guest.
    pub(super) fn says(&mut self, what: Said) -> Result<()> {
        let mut byte = [0];
        while byte != [what as u8] {
            if self.output.read(&mut byte).context("the VMM is lost")? == 0 {
                bail!("the VMM ended early: {:?}", self.child.wait()?);
            }
        }
        Ok(())
    }

    /// Waits for the end; whether it was as it should be.
    pub(super) fn ends_well(mut self) -> Result<bool> {
        Ok(self.child.wait().context("the VMM is lost")?.success())
    }

    /// Resident memory in MiB without the guest's.
    pub(super) fn resident_mib(&self) -> Result<f64> {
        resident_mib(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // One that has ended already cannot be killed, and need not.
    let _ = child.kill();
    let _ = child.wait();
}

/// Resident memory of QEMU's smallest machine, as it waits for something to
/// boot, in MiB without the guest's.
pub(super) fn qemu_resident_mib(words: &[OsString], memory: &str) -> Result<f64> {
    let (program, more) = words.split_first().context("no QEMU is given")?;
    let mut child = Command::new(program)
        .args(more)
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-accel", "kvm", "-cpu", "host"])
        .args(["-M", "microvm,memory-backend=mem", "-m", memory])
        .arg("-object")
        .arg(format!(
            "memory-backend-memfd,id=mem,size={memory},share=on"
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start QEMU")?;
    let settled = settle(&mut child);
    end(&mut child);
    settled
}

/// The resident memory of `child` once it does not grow any more.
fn settle(child: &mut Child) -> Result<f64> {
    let end = Instant::now() + SETTLES;
    let (mut last, mut same) = (0.0, 0);
    while same < 10 {
        if let Some(status) = child.try_wait()? {
            bail!("QEMU ended ({status})");
        }
        let now = resident_mib(child.id())?;
        same = if now > 0.0 && now <= last {
            same + 1
        } else {
            0
        };
        last = now;
        if Instant::now() > end {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(last)
}

/// Resident memory of a process in MiB, without its guest's.
fn resident_mib(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps"))
        .context("cannot read the VMM's mappings")?;
    let mut guest = false;
    let mut kib = 0.0;
    for line in text.lines() {
        if let Some(size) = line.strip_prefix("Rss:") {
            let size = size.trim().trim_end_matches(" kB");
            if !guest {
                kib += size.parse::<f64>().context("a size is no number")?;
            }
        } else if !line.split(' ').next().unwrap_or_default().ends_with(':') {
            // The head of a mapping; sizes begin with a name and a colon.
            guest = GUEST_MEMORY.iter().any(|name| line.contains(name));
        }
    }
    Ok(kib / 1024.0)
}
