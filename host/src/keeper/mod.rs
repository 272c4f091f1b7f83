// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What outlives the process: files of memory, and file descriptors by name.
//!
//! [`Outside`] is where a program finds what its predecessor has left, and leaves what
//! its successor needs. Behind it is a folder on tmpfs, or a [`Keeper`] of file
//! descriptors: the service manager ([`systemd`]) or a small process of ours
//! ([`holder`]), or a folder and a keeper.

mod files;
pub mod folder;
pub mod holder;
mod message;
pub mod record;
pub mod systemd;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use crate::listen_fds;
use files::{locked, memory_file};
use folder::Folder;
pub use systemd::PREFIX;

/// Keeps file descriptors for the next process. Each is kept once a call has returned. One
/// that does not answer keeps callers waiting for some seconds, once.
pub trait Keeper: Debug + Send + Sync {
    /// Keeps a duplicate under a name that nothing is kept under.
    ///
    /// # Errors
    /// When it is not kept.
    fn keep(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Closes what is kept under a name.
    ///
    /// # Errors
    /// When the keeper does not answer.
    fn forget(&self, name: &str) -> io::Result<()>;

    /// Whether what was kept is still there, as far as can be known without asking.
    fn is_there(&self) -> bool;
}

/// File descriptors by name.
pub type Kept = BTreeMap<String, OwnedFd>;

/// Everything outside of the process that outlives it.
#[derive(Debug)]
pub struct Outside {
    folder: Option<Folder>,
    keeper: Option<Box<dyn Keeper>>,
    /// What an earlier process has left and nobody has taken yet.
    kept: Mutex<Kept>,
}

impl Outside {
    /// Opens what `folder`, `holder` and the environment name. Of the environment only
    /// when no holder is given. To be called once, before the process opens anything.
    ///
    /// # Errors
    /// A sentence, when what was asked for is not to be had.
    pub fn open(folder: Option<&Path>, holder: Option<&Path>) -> Result<Self> {
        let (keeper, kept) = match holder {
            Some(path) => {
                let (keeper, kept) = holder::Holder::connect(path)?;
                (Some(Box::new(keeper) as Box<dyn Keeper>), kept)
            }
            None => {
                let kept = listen_fds::take(|name| name.starts_with(PREFIX));
                let kept = kept.into_iter().filter_map(|(name, fd)| {
                    let name = name.strip_prefix(PREFIX)?;
                    Some((name.to_owned(), fd))
                });
                let kept: Kept = kept.collect();
                let keeper = systemd::Systemd::of_environment(kept.len());
                let keeper = keeper.context("cannot use the service manager's fd store")?;
                (keeper.map(|keeper| Box::new(keeper) as _), kept)
            }
        };
        Ok(Self {
            folder: folder.map(Folder::open).transpose()?,
            keeper,
            kept: Mutex::new(kept),
        })
    }

    /// Whether anything outlives the process.
    pub fn keeps_memory(&self) -> bool {
        self.folder.is_some() || self.keeper.is_some()
    }

    /// Whether the keeper is still there, if there was one.
    pub fn is_there(&self) -> bool {
        self.keeper.as_ref().is_none_or(|keeper| keeper.is_there())
    }

    /// Whether files of memory outlive the process that are made from now on.
    pub fn keeps_more(&self) -> bool {
        self.folder.is_some() || self.keeps_memory() && self.is_there()
    }

    /// Whether open file descriptors outlive the process.
    pub fn keeps_fds(&self) -> bool {
        self.keeper.is_some()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of memory with this name, made if it is not there, for this process alone.
    /// It never shrinks: it is sealed, or in a folder that is the user's own.
    ///
    /// # Errors
    /// A sentence: another process uses it, or it cannot be had.
    pub fn memory(&self, name: &str) -> Result<OwnedFd> {
        if let Some(folder) = &self.folder {
            return folder.file(name);
        }
        let earlier = self.kept().remove(name);
        let file = match earlier {
            Some(file) => file,
            None => {
                let file = memory_file(name).context("cannot make a memfd")?;
                self.keep(name, file.as_fd())
                    .with_context(|| format!("cannot have '{name}' kept"))?;
                file
            }
        };
        locked(file.as_fd()).with_context(|| format!("cannot take '{name}' over"))
    }

    /// Forgets a file of memory, so that another is made when it is asked for again. It is
    /// kept aside, if it is in a folder.
    ///
    /// # Errors
    /// A sentence, when it stays.
    pub fn forget_memory(&self, name: &str) -> Result<()> {
        match &self.folder {
            Some(folder) => folder.put_aside(name),
            None => self
                .forget(name)
                .with_context(|| format!("cannot have '{name}' forgotten")),
        }
    }

    /// Has a file descriptor kept.
    ///
    /// # Errors
    /// When it is not.
    pub fn keep(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        match &self.keeper {
            Some(keeper) => keeper.keep(name, fd),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Has a file descriptor forgotten.
    ///
    /// # Errors
    /// When it is perhaps not.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        self.kept().remove(name);
        match &self.keeper {
            Some(keeper) => keeper.forget(name),
            None => Ok(()),
        }
    }

    /// Takes what an earlier process left under a name. It stays kept.
    pub fn take(&self, name: &str) -> Option<OwnedFd> {
        self.kept().remove(name)
    }

    /// Names of what an earlier process left, that begin like this.
    pub fn left(&self, prefix: &str) -> Vec<String> {
        let kept = self.kept();
        let names = kept.keys().filter(|name| name.starts_with(prefix));
        names.cloned().collect()
    }
}

#[cfg(test)]
mod tests;
