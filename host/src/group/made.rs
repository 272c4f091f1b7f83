// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Control groups that a test or a benchmark makes for what it runs.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::Group;
use super::place::{Version, has_word};

/// A group that is removed when this is dropped, once it has no members any more.
#[derive(Debug)]
pub struct Made(Group);

impl Made {
    /// Makes a group called `name` that may have `bytes`, without swap: in that of this
    /// process, or in the nearest above where groups with memory can be.
    ///
    /// # Errors
    /// A sentence about what is missing.
    pub fn new(name: &str, bytes: u64) -> Result<Self> {
        let own = Group::own()
            .context("no control groups with the memory controller are mounted on this host")?;
        let made = own
            .levels()
            .filter(|dir| {
                own.version == Version::One
                    || fs::read_to_string(dir.join("cgroup.subtree_control"))
                        .is_ok_and(|text| has_word(&text, "memory"))
            })
            .map(|dir| dir.join(name))
            .find(|dir| fs::create_dir(dir).is_ok());
        let Some(dir) = made else {
            bail!(
                "no control group can be made in {} or above it",
                own.dir.display()
            );
        };
        let made = Self(Group { dir, ..own });
        made.limit(bytes)?;
        Ok(made)
    }

    /// The group.
    pub fn group(&self) -> &Group {
        &self.0
    }

    /// The file that a process is written to in order to join.
    pub fn members(&self) -> PathBuf {
        self.0.dir.join("cgroup.procs")
    }

    /// Removes it; whether that was possible.
    ///
    /// # Errors
    /// It has members.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir(&self.0.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn limit(&self, bytes: u64) -> Result<()> {
        let (swap, most) = match self.0.version {
            Version::One => ("memory.memsw.limit_in_bytes", bytes),
            Version::Two => ("memory.swap.max", 0),
        };
        self.write(self.0.version.limit(), bytes)?;
        // Only there where swap is counted.
        if self.0.dir.join(swap).exists() {
            self.write(swap, most)?;
        }
        Ok(())
    }

    fn write(&self, name: &str, value: u64) -> Result<()> {
        let path = self.0.dir.join(name);
        fs::write(&path, value.to_string())
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // With members it stays; it is harmless.
        let _ = self.remove();
    }
}
