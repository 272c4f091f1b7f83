// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A file and what it must hold.

use crate::control::WrongBytes;
use crate::device;
use crate::runs::Runs;
use anyhow::Context;
use anyhow::Result;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

/// Bytes that are compared at once.
const CHUNK: usize = 128 * 1024;

/// A file of a thread's own.
pub(super) struct Owned {
    /// Names it in messages and in its content.
    pub(super) number: u32,
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// The same past the page cache, where that can be.
    pub(super) direct: Option<File>,
    pub(super) model: Runs,
}

impl Owned {
    /// Makes a new, empty file.
    pub(super) fn create(path: PathBuf, number: u32) -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            number,
            direct: device::open(&path, true).ok(),
            path,
            file,
            model: Runs::default(),
        })
    }

    /// Opens it anew by its name.
    pub(super) fn reopen(&mut self) -> Result<()> {
        self.file = device::open(&self.path, false)
            .with_context(|| format!("cannot open {}", self.path.display()))?;
        self.direct = device::open(&self.path, true).ok();
        Ok(())
    }

    /// Compares `found`, read at `at`.
    pub(super) fn verify(&self, at: u64, found: &[u8], how: &str) -> Result<()> {
        self.model.verify(at, found).map_err(|wrong| {
            let path = self.path.display();
            WrongBytes(format!("file {} ({path}), {how}, {wrong}", self.number)).into()
        })
    }

    /// Compares its length with what it must be.
    pub(super) fn verify_length(&self) -> Result<()> {
        let length = self.file.metadata().context("cannot stat a file")?.len();
        if length != self.model.length() {
            let text = format!(
                "file {} ({}) is {length} bytes long instead of {}",
                self.number,
                self.path.display(),
                self.model.length()
            );
            return Err(WrongBytes(text).into());
        }
        Ok(())
    }

    /// Reads and compares all of it, in order; gives back how much that was.
    pub(super) fn scan(&self, how: &str) -> Result<usize> {
        self.verify_length()?;
        let mut buffer = vec![0; CHUNK];
        let (mut at, mut total) = (0, 0);
        while at < self.model.length() {
            let left = self.model.length() - at;
            let count = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let part = buffer.get_mut(..count).unwrap_or_default();
            read(&self.file, at, part, &self.path)?;
            self.verify(at, part, how)?;
            at += count as u64;
            total += count;
        }
        Ok(total)
    }
}

/// Reads all of `into`.
pub(super) fn read(file: &File, at: u64, into: &mut [u8], path: &Path) -> Result<()> {
    let count = into.len();
    file.read_exact_at(into, at)
        .with_context(|| format!("cannot read {count} bytes at {at} of {}", path.display()))
}
