// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A directory of files that only this program writes, one for each thing of a kind, named after it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::files::{self, EXTENSION};
use super::name::Name;

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the directory if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn make(dir: PathBuf) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&dir)?;
        Ok(Self(dir))
    }

    /// Where it is.
    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What was kept.
    ///
    /// # Errors
    /// When something there is damaged.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<Vec<(Name, PathBuf, T)>> {
        files::read(&self.0)
    }

    /// Keeps `value` as `name`. After a crash at any time the file has either all of it or what it had
    /// before.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub(super) fn write(&self, name: &Name, value: &impl Serialize) -> Result<()> {
        let text = toml::to_string(value).context("cannot write settings")?;
        let path = self.file(name);
        // No name begins with a dot.
        let fresh = self.0.join(format!(".{name}.new"));
        let written = self.replace(&path, &fresh, &text);
        written.with_context(|| format!("cannot keep the settings in '{}'", path.display()))
    }

    fn replace(&self, path: &Path, fresh: &Path, text: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(fresh, path)?;
        self.sync()
    }

    /// Forgets `name`.
    ///
    /// # Errors
    /// When it may still be there after a crash.
    pub(super) fn remove(&self, name: &Name) -> Result<()> {
        let path = self.file(name);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        removed
            .and_then(|()| self.sync())
            .with_context(|| format!("cannot remove '{}'", path.display()))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn file(&self, name: &Name) -> PathBuf {
        self.0.join(format!("{name}.{EXTENSION}"))
    }
}
