// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Opening a disk so that nobody else writes to it.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::io::Errno;
use thiserror::Error;

use super::SECTOR;
use super::format::NotRaw;

/// How long a block device may be locked by somebody who only looks: udev does
/// so for a moment whenever a device was written to.
const LOOKING: Duration = Duration::from_secs(1);

/// Why a disk cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is nothing at the path.
    #[error(
        "there is no disk '{0}'; give an existing raw image or block device (an empty image is \
         made by 'truncate -s 8G FILE')"
    )]
    Missing(PathBuf),
    /// There is a directory.
    #[error("'{0}' is a directory; give a raw disk image or a block device")]
    Directory(PathBuf),
    /// There is something that is no disk.
    #[error("'{0}' is neither a file nor a block device")]
    NoDisk(PathBuf),
    /// It may not be read.
    #[error("no permission to read the disk '{0}'; change its owner or mode")]
    NotReadable(PathBuf),
    /// It may not be written, or its file system is read-only.
    #[error(
        "no permission to write to the disk '{0}'; change its owner or mode, or add readonly=on"
    )]
    NotWritable(PathBuf),
    /// It has no bytes.
    #[error("the disk '{0}' is empty; give it a size, for example with 'truncate -s 8G {0}'")]
    Empty(PathBuf),
    /// Its size is no whole number of sectors.
    #[error(
        "the disk '{0}' has {1} bytes, which is no multiple of 512: it is no raw disk image, or \
         was cut off (if neither, 'truncate -s %512 {0}' fills it up with zeros)"
    )]
    Odd(PathBuf, u64),
    /// It is an image in a format that is not raw.
    #[error(
        "'{0}' is {what}, and a disk is raw; make a raw one with '{command} {0} …', or let the guest \
         have these bytes with format=raw",
        what = .1.what,
        command = .1.command
    )]
    NotRaw(PathBuf, NotRaw),
    /// Another process has it, and one of the two wants to write.
    #[error(
        "the disk '{0}' is in use by another process; stop that one first, or let both use it \
         with readonly=on"
    )]
    InUse(PathBuf),
    /// The host itself has it.
    #[error(
        "the disk '{0}' is in use on this host: it is mounted, part of a volume, or another \
         program's; unmount it first"
    )]
    Claimed(PathBuf),
    /// Anything else.
    #[error("the disk '{path}' cannot be opened")]
    Other {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens and locks what is at `path`.
pub(super) fn open(path: &Path, read_only: bool) -> Result<(File, Metadata), OpenError> {
    let told = |error| OpenError::new(path, error);
    // Looked at first, because opening a pipe waits, and opening a block device
    // wants a flag of its own.
    let kind = std::fs::metadata(path).map_err(told)?.file_type();
    check(path, kind)?;
    let open = |claim: bool| {
        OpenOptions::new()
            .read(true)
            .write(!read_only)
            .custom_flags(if claim { libc::O_EXCL } else { 0 })
            .open(path)
    };
    let file = if kind.is_block_device() {
        // O_EXCL: fails if the device is mounted. Readers do not keep the claim,
        // so that several can read one device.
        let claimed = open(true).map_err(told)?;
        if read_only {
            open(false).map_err(told)?
        } else {
            claimed
        }
    } else {
        open(false).map_err(told)?
    };
    let metadata = file.metadata().map_err(told)?;
    if metadata.file_type() != kind {
        return Err(told(io::Error::other("it was replaced meanwhile")));
    }
    lock(&file, path, read_only, kind)?;
    Ok((file, metadata))
}

/// Accepts the size of the disk at `path`, in bytes.
pub(super) fn check_size(path: &Path, size: u64) -> Result<(), OpenError> {
    match size {
        0 => Err(OpenError::Empty(path.into())),
        _ if !size.is_multiple_of(SECTOR) => Err(OpenError::Odd(path.into(), size)),
        _ => Ok(()),
    }
}

fn check(path: &Path, kind: FileType) -> Result<(), OpenError> {
    if kind.is_dir() {
        Err(OpenError::Directory(path.into()))
    } else if kind.is_file() || kind.is_block_device() {
        Ok(())
    } else {
        Err(OpenError::NoDisk(path.into()))
    }
}

/// Locks the file against writers, and against everybody if it will be written
/// to. The lock goes with the file.
fn lock(file: &File, path: &Path, read_only: bool, kind: FileType) -> Result<(), OpenError> {
    let told = |error: Errno| OpenError::new(path, error.into());
    let lock = if read_only {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    // QEMU and Cloud Hypervisor lock otherwise. Such a lock is not kept: where
    // flock is made of it (NFS), both would be in each other's way.
    match fcntl_lock(file, lock) {
        Err(Errno::ACCESS | Errno::AGAIN) => return Err(OpenError::InUse(path.into())),
        // In doubt there are no such locks.
        Err(_) => {}
        Ok(()) => fcntl_lock(file, FlockOperation::Unlock).map_err(told)?,
    }
    let began = Instant::now();
    loop {
        match flock(file, lock) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if kind.is_block_device() && began.elapsed() < LOOKING => {
                std::thread::sleep(LOOKING / 50);
            }
            Err(Errno::WOULDBLOCK) => return Err(OpenError::InUse(path.into())),
            Err(Errno::INTR) => {}
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => {
                log::warn!(
                    "the file system of the disk '{}' has no locks: nothing keeps another \
                     process from writing to it",
                    path.display()
                );
                return Ok(());
            }
            Err(error) => return Err(told(error)),
        }
    }
}

impl OpenError {
    pub(super) fn new(path: &Path, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            ErrorKind::NotFound => Self::Missing(path),
            ErrorKind::ResourceBusy => Self::Claimed(path),
            ErrorKind::ReadOnlyFilesystem => Self::NotWritable(path),
            ErrorKind::PermissionDenied if File::open(&path).is_ok() => Self::NotWritable(path),
            ErrorKind::PermissionDenied => Self::NotReadable(path),
            _ => Self::Other { path, source },
        }
    }
}
