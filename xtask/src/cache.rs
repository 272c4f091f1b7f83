// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The cache of made things. An entry is a directory whose name says what is
//! in it, versions included; it is made under another name and renamed when
//! whole, so that a half-made one is never taken for good.

use crate::exec;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::FlockOperation;
use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Prefix of directories that are being made.
const UNFINISHED: &str = ".making-";

/// Directories that are no entries.
const SHARED: [&str; 2] = ["apt", "log"];

/// The cache, locked against other xtasks for as long as this lives.
pub(crate) struct Cache {
    dir: PathBuf,
    _lock: File,
}

/// Where the cache is: `$TMEM_CACHE`, else `virtio-tmem` in `$XDG_CACHE_HOME`,
/// else in `~/.cache`.
pub(crate) fn location() -> Result<PathBuf> {
    locate(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
}

fn locate(env: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let dir = if let Some(dir) = env("TMEM_CACHE") {
        PathBuf::from(dir)
    } else if let Some(dir) = env("XDG_CACHE_HOME") {
        Path::new(&dir).join("virtio-tmem")
    } else if let Some(home) = env("HOME") {
        Path::new(&home).join(".cache/virtio-tmem")
    } else {
        bail!("neither HOME nor TMEM_CACHE is set; set TMEM_CACHE to a directory for the cache");
    };
    if !dir.is_absolute() {
        bail!(
            "the cache directory {} is not an absolute path; set TMEM_CACHE to one",
            dir.display()
        );
    }
    Ok(dir)
}

impl Cache {
    /// Opens the cache in `dir`, waits for any other xtask that works in it,
    /// and clears away what an interrupted one left behind.
    pub(crate) fn open(dir: PathBuf) -> Result<Self> {
        let named = || {
            format!(
                "cannot use the cache directory {}; set TMEM_CACHE to another",
                dir.display()
            )
        };
        fs::create_dir_all(dir.join("log")).with_context(named)?;
        let lock = File::create(dir.join("lock")).with_context(named)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            println!("waiting for another xtask that works in {}", dir.display());
            rustix::fs::flock(&lock, FlockOperation::LockExclusive).with_context(named)?;
        }
        let cache = Self { dir, _lock: lock };
        for entry in fs::read_dir(&cache.dir).context("cannot read the cache directory")? {
            let entry = entry.context("cannot read the cache directory")?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(cache)
    }

    /// The path of `name` in the cache, whether it is there or not.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where the log of making `name` goes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    /// Whether the entry `name` is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).is_dir()
    }

    /// The names of all entries.
    pub(crate) fn entries(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).context("cannot read the cache directory")? {
            let entry = entry.context("cannot read the cache directory")?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() && !SHARED.contains(&name.as_str()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The entry `name`; `make` fills it, given an empty directory, if it is
    /// not there yet.
    pub(crate) fn entry(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.path(name);
        if path.is_dir() {
            return Ok(path);
        }
        // The same parent: moving a directory elsewhere needs rights on the
        // directory itself, which an ordinary user lacks on a Debian root.
        let unfinished = self.dir.join(format!("{UNFINISHED}{name}"));
        fs::create_dir(&unfinished)
            .with_context(|| format!("cannot make {}", unfinished.display()))?;
        if let Err(error) = make(&unfinished) {
            // The cause matters more than what could not be cleared away; the
            // next start tries again.
            let _ = remove_tree(&unfinished);
            return Err(error);
        }
        fs::rename(&unfinished, &path)
            .with_context(|| format!("cannot rename {}", unfinished.display()))?;
        Ok(path)
    }
}

/// Removes a directory tree, unless something is mounted in it.
pub(crate) fn remove_tree(tree: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot list the mounts")?;
    if let Some(mount) = mount_below(&mounts, tree) {
        bail!(
            "{mount} is mounted inside {}, which should be removed; unmount it first",
            tree.display()
        );
    }
    if let Err(error) = fs::remove_dir_all(tree) {
        if rustix::process::geteuid().is_root() {
            return Err(error).with_context(|| format!("cannot remove {}", tree.display()));
        }
        // A root made by an ordinary user belongs to its subordinate ids.
        exec::output(
            Command::new("unshare")
                .args(["--map-root-user", "--map-auto", "rm", "-rf"])
                .arg(tree),
        )?;
    }
    Ok(())
}

/// The first mount point at or below `tree` in the text of a mountinfo file.
fn mount_below<'a>(mountinfo: &'a str, tree: &Path) -> Option<&'a str> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .find(|point| Path::new(point).starts_with(tree))
}

#[cfg(test)]
mod tests;
