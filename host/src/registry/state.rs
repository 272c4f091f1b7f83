// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The directory in which the program keeps what the control API has made.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::folder::Folder;
use super::name::Name;
use super::settings::{Said, Settings};

/// A directory that only this program writes to.
#[derive(Debug)]
pub struct State {
    machines: Folder,
    shares: Folder,
    /// Held until the end.
    _lock: File,
}

impl State {
    /// Takes the directory `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// When another program has it, or it cannot be used.
    pub fn open(dir: &Path) -> Result<Self> {
        let at = dir.display();
        let folder = |name| {
            let made = Folder::make(dir.join(name));
            made.with_context(|| format!("cannot make the state directory '{at}'"))
        };
        let machines = folder("vms")?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options
            .open(dir.join("lock"))
            .with_context(|| format!("cannot use the state directory '{at}'"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => bail!(
                "another program has the state directory '{at}'; end it, or give another --state"
            ),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot lock the state directory '{at}'"));
            }
        }
        Ok(Self {
            machines,
            shares: folder("shares")?,
            _lock: lock,
        })
    }

    /// The machines that were kept.
    ///
    /// # Errors
    /// When something there is damaged.
    pub fn read(&self) -> Result<Vec<(Name, PathBuf, Said)>> {
        self.machines.read()
    }

    /// Keeps the settings of the machine `name`. After a crash at any time the file has either all of
    /// them or what it had before.
    ///
    /// # Errors
    /// When they are not on the disk.
    pub fn write(&self, name: &Name, settings: &Settings) -> Result<()> {
        self.machines.write(name, &Said::from(settings))
    }

    /// Forgets the machine `name`.
    ///
    /// # Errors
    /// When it may still be there after a crash.
    pub fn remove(&self, name: &Name) -> Result<()> {
        self.machines.remove(name)
    }

    /// Where shares are kept.
    pub(super) fn shares(&self) -> &Folder {
        &self.shares
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::defaults;
    use super::*;
    use std::fs;

    #[test]
    fn what_is_kept_is_found_by_the_next_program_and_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("a/b")).unwrap();
        let name: Name = "web1".parse().unwrap();
        let mut settings = Said::default().over(&defaults()).unwrap();
        state.write(&name, &settings).unwrap();
        settings.weight = 300;
        state.write(&name, &settings).unwrap();
        // What a crash in the middle of a write leaves.
        fs::write(state.machines.path().join(".web1.new"), "quo").unwrap();

        let other = State::open(&dir.path().join("a/b")).unwrap_err();
        assert!(other.to_string().contains("--state"), "{other}");
        drop(state);
        let state = State::open(&dir.path().join("a/b")).unwrap();
        let kept = state.read().unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].0, name);
        assert_eq!(kept[0].2.over(&defaults()).unwrap(), settings);
        state.remove(&name).unwrap();
        state.remove(&name).unwrap();
        assert!(state.read().unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_kept_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let name: Name = "web1".parse().unwrap();
        let settings = Said::default().over(&defaults()).unwrap();
        fs::remove_dir_all(state.machines.path()).unwrap();
        let error = state.write(&name, &settings).unwrap_err();
        assert!(error.to_string().contains("web1.toml"), "{error}");
    }
}
