// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A folder on tmpfs for files of memory.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FileType, Mode, OFlags};

use super::files::lock;
use crate::tmpfs;

/// A folder that belongs to this user alone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    folder: OwnedFd,
}

impl Folder {
    /// Opens a folder, and makes it if it is not there.
    ///
    /// # Errors
    /// A sentence, when others can change what is in it, or it is not on tmpfs.
    pub fn open(path: &Path) -> Result<Self> {
        let at = path.display();
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make the folder '{at}'"));
            }
            _ => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())
            .with_context(|| format!("cannot open the folder '{at}'"))?;
        let stat = rustix::fs::fstat(&folder).with_context(|| format!("cannot look at '{at}'"))?;
        ensure!(
            stat.st_uid == rustix::process::geteuid().as_raw(),
            "the folder '{at}' belongs to another user; give one of your own"
        );
        ensure!(
            stat.st_mode & 0o022 == 0,
            "others may write to the folder '{at}'; take that away with chmod go-w"
        );
        ensure!(
            tmpfs::has(&folder).with_context(|| format!("cannot look at '{at}'"))?,
            "'{at}' is not on tmpfs, where memory can be given back in parts; give a folder below \
             /run or /dev/shm"
        );
        Ok(Self {
            path: path.to_owned(),
            folder,
        })
    }

    fn show(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// A file in it, made if it is not there, for this process alone.
    ///
    /// # Errors
    /// A sentence: it is not this user's alone, or another process uses it.
    pub fn file(&self, name: &str) -> Result<OwnedFd> {
        let at = self.show(name);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&self.folder, name, flags, mode)
            .with_context(|| format!("cannot open '{at}'"))?;
        let stat = rustix::fs::fstat(&file).with_context(|| format!("cannot look at '{at}'"))?;
        ensure!(
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            "'{at}' is no regular file; remove it"
        );
        ensure!(
            stat.st_uid == rustix::process::geteuid().as_raw()
                && stat.st_mode & 0o077 == 0
                && stat.st_nlink == 1,
            "'{at}' is not this user's alone (owner, mode 0600, one link); remove it"
        );
        lock(file.as_fd()).with_context(|| format!("cannot use '{at}'"))?;
        Ok(file)
    }

    /// Gives a file another name, so that a person may look at it. The last one with that
    /// name is replaced.
    ///
    /// # Errors
    /// A sentence, when it cannot be.
    pub fn put_aside(&self, name: &str) -> Result<()> {
        let (from, to) = (
            self.path.join(name),
            self.path.join(format!("{name}.damaged")),
        );
        fs::rename(&from, &to).with_context(|| format!("cannot rename '{}'", from.display()))
    }
}
