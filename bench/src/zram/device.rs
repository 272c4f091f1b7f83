// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices that are added to the kernel's zram and removed from it.

use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

const HOT_ADD: &str = "/sys/class/zram-control/hot_add";
const HOT_REMOVE: &str = "/sys/class/zram-control/hot_remove";

/// How long others may have the device open, as udev does after a change.
const PATIENCE: Duration = Duration::from_secs(5);

/// A device that this program has added; it is removed on drop, with all it holds.
pub(super) struct Device(Identity);

/// Tells a device from a later one of the same number.
#[derive(Clone)]
pub(super) struct Identity {
    number: u32,
    /// No two disks have the same. Kernels before 5.15 do not say it.
    diskseq: Option<String>,
}

impl Identity {
    fn of(number: u32) -> Self {
        let diskseq = fs::read_to_string(attribute(number, "diskseq")).ok();
        Self { number, diskseq }
    }

    /// Whether the device is still there.
    pub(super) fn exists(&self) -> bool {
        attribute(self.number, "initstate").exists()
            && Self::of(self.number).diskseq == self.diskseq
    }
}

impl Device {
    /// Adds one.
    pub(super) fn add() -> Result<Self> {
        let control = Path::new(HOT_ADD);
        if !control.exists() {
            anyhow::bail!("this kernel has no zram, or its module is not loaded");
        }
        let mut control = File::open(control).context("adding a zram device needs root")?;
        // Every read of the file adds a device: there must be only one.
        let mut answer = [0; 32];
        let length = control
            .read(&mut answer)
            .context("cannot add a zram device")?;
        let number = answer
            .get(..length)
            .and_then(|answer| str::from_utf8(answer).ok())
            .and_then(|answer| answer.trim().parse().ok())
            .context("the kernel does not say which zram device it added")?;
        Ok(Self(Identity::of(number)))
    }

    #[cfg(test)]
    pub(super) fn identity(&self) -> Identity {
        self.0.clone()
    }

    /// The block device.
    pub(super) fn path(&self) -> PathBuf {
        format!("/dev/zram{}", self.0.number).into()
    }

    /// Reads an attribute.
    pub(super) fn get(&self, name: &str) -> Result<String> {
        let path = attribute(self.0.number, name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Writes an attribute.
    pub(super) fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = attribute(self.0.number, name);
        fs::write(&path, value)
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let begin = Instant::now();
        while self.0.exists() {
            let number = self.0.number;
            match fs::write(HOT_REMOVE, number.to_string()) {
                Ok(()) => return,
                Err(error)
                    if error.kind() == io::ErrorKind::ResourceBusy
                        && begin.elapsed() < PATIENCE =>
                {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) => {
                    eprintln!(
                        "/dev/zram{number} stays behind ({error}); \
                         to remove it, write {number} to {HOT_REMOVE}"
                    );
                    return;
                }
            }
        }
    }
}

fn attribute(number: u32, name: &str) -> PathBuf {
    format!("/sys/block/zram{number}/{name}").into()
}
