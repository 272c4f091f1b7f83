// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A file or block device as a place for segments. The first 128 KiB of it are its own.

use super::{Area, SEGMENT_BYTES, SegmentKey};
use crate::types::PAGE_SIZE;
use crate::words;
use rustix::fs::{AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a file or device is not used as a spill area.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpillError {
    /// The system refuses.
    #[error("cannot {action} {}", path.display())]
    System {
        /// What was tried.
        action: &'static str,
        /// The file or device.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "{} holds something that is no spill area; give another one, or clear it with wipefs -a and by writing zeros over its first 128 KiB",
        path.display()
    )]
    Foreign {
        /// The file or device.
        path: PathBuf,
    },
    /// Another process has it, or it is mounted.
    #[error("{} is in use by another process, or mounted; give each daemon a spill area of its own", path.display())]
    InUse {
        /// The file or device.
        path: PathBuf,
    },
    /// It is no file and no block device.
    #[error("{} is neither a file nor a block device", path.display())]
    WrongKind {
        /// What it is called.
        path: PathBuf,
    },
    /// It has room for too little.
    #[error("{} has {bytes} bytes; a spill area has at least {least}: say size=BYTES, or give a larger device", path.display())]
    TooSmall {
        /// The file or device.
        path: PathBuf,
        /// Bytes that it has.
        bytes: u64,
        /// The fewest that do.
        least: u64,
    },
}

/// Memory as direct I/O wants it.
#[derive(Debug)]
#[repr(align(4096))]
pub(crate) struct Aligned<const N: usize>([u8; N]);

impl<const N: usize> Aligned<N> {
    /// Zeros.
    pub(crate) const fn new() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Deref for Aligned<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> DerefMut for Aligned<N> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// A file or block device that a store may spill to. Nobody else uses it as one meanwhile.
#[derive(Debug)]
pub struct SpillArea {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Reads begin and end at multiples of so many bytes, at most a page.
    align: usize,
    identity: AtomicU64,
}

/// What an area begins with, in its first 128 KiB: magic, version and size of a slot, identity,
/// and a checksum of these.
const MAGIC: u64 = u64::from_le_bytes(*b"tmemspil");
const VERSION: u64 = 1;

impl SpillArea {
    /// Bytes that an area is a multiple of. The first of them are its own.
    const UNIT: u64 = SEGMENT_BYTES as u64;

    /// Least bytes of an area.
    pub const LEAST: u64 = 8 * Self::UNIT;

    /// Opens an area, or makes one of a file that is not there or empty, or of a device that begins
    /// with zeros. A file gets `size` bytes, rounded down to 128 KiB, all of which the file
    /// system sets aside; of a device as many are used.
    ///
    /// Without a store that has pages in it ([`Store::recover`](crate::Store::recover)), nothing
    /// that an area holds counts.
    ///
    /// # Errors
    /// See [`SpillError`].
    pub fn open(path: &Path, size: Option<u64>) -> Result<Self, SpillError> {
        let failed = |action| {
            let path = path.to_path_buf();
            move |source: Errno| SpillError::System {
                action,
                path,
                source: source.into(),
            }
        };
        let in_use = || SpillError::InUse { path: path.into() };
        let (file, is_new) = open(path).map_err(|error| match error {
            Errno::BUSY => in_use(),
            other => failed("open")(other),
        })?;
        let stat = rustix::fs::fstat(&file).map_err(failed("look at"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::BlockDevice) {
            return Err(SpillError::WrongKind { path: path.into() });
        }
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            match error {
                Errno::WOULDBLOCK => in_use(),
                other => failed("lock")(other),
            }
        })?;
        let has = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0));
        let has = has.map_err(failed("see the size of"))?;
        let wanted = size.unwrap_or(has);
        let is_file = kind == FileType::RegularFile;
        let bytes = if is_file { wanted } else { wanted.min(has) };
        let bytes = bytes / Self::UNIT * Self::UNIT;
        if bytes < Self::LEAST {
            if is_new {
                let _ = rustix::fs::unlink(path);
            }
            return Err(SpillError::TooSmall {
                path: path.into(),
                bytes,
                least: Self::LEAST,
            });
        }
        let area = Self {
            path: path.into(),
            bytes,
            align: align(&file, is_file),
            file: file.into(),
            identity: AtomicU64::new(0),
        };
        // Before anything is changed: it may be somebody's.
        let known = if has == 0 { None } else { area.known()? };
        if is_file && has < bytes {
            let none = FallocateFlags::empty();
            rustix::io::retry_on_intr(|| rustix::fs::fallocate(&area.file, none, 0, bytes))
                .map_err(failed("set room aside in"))?;
        }
        let identity = match known {
            Some(identity) => identity,
            None => area.mark().map_err(|source| SpillError::System {
                action: "write to",
                path: path.into(),
                source,
            })?,
        };
        area.identity.store(identity, Relaxed);
        Ok(area)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of an area that is there; `None` if there are zeros.
    fn known(&self) -> Result<Option<u64>, SpillError> {
        let mut block = Aligned::<PAGE_SIZE>::new();
        let mut is_empty = true;
        for start in (0..Self::UNIT).step_by(PAGE_SIZE) {
            let read = self.file.read_exact_at(&mut block, start);
            read.map_err(|source| SpillError::System {
                action: "read",
                path: self.path.clone(),
                source,
            })?;
            let [magic, version, identity, sum] = words::first(&block);
            let is_ours = magic == MAGIC && sum == words::crc(&[magic, version, identity]);
            if start == 0 && is_ours && version == layout() {
                return Ok(Some(identity));
            }
            is_empty &= block.iter().all(|byte| *byte == 0);
        }
        if is_empty {
            return Ok(None);
        }
        Err(SpillError::Foreign {
            path: self.path.clone(),
        })
    }

    fn mark(&self) -> io::Result<u64> {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let identity = u64::from_le_bytes(random);
        let sum = words::crc(&[MAGIC, layout(), identity]);
        let mut block = Aligned::<PAGE_SIZE>::new();
        words::put(&mut block, &[MAGIC, layout(), identity, sum]);
        self.file.write_all_at(&block, 0)?;
        Ok(identity)
    }
}

impl Area for SpillArea {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn identity(&self) -> u64 {
        self.identity.load(Relaxed)
    }

    fn segments(&self) -> u32 {
        let own = 1;
        u32::try_from(self.bytes / Self::UNIT - own).unwrap_or(u32::MAX)
    }

    fn align(&self) -> usize {
        self.align
    }

    fn renew(&self) -> io::Result<()> {
        self.identity.store(self.mark()?, Relaxed);
        Ok(())
    }

    fn read(
        &self,
        segment: SegmentKey,
        offset: usize,
        bytes: &mut [u8],
        _go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let start = start(segment) + offset as u64;
        self.file.read_exact_at(bytes, start)
    }

    fn write(&self, segment: SegmentKey, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, start(segment))
    }
}

/// Bytes before a segment.
fn start(segment: SegmentKey) -> u64 {
    u64::from(segment.slot) * SpillArea::UNIT
}

/// Opens or makes a file, past the page cache if its file system can do that; whether it was made.
fn open(path: &Path) -> rustix::io::Result<(OwnedFd, bool)> {
    let mut flags = OFlags::RDWR | OFlags::CLOEXEC;
    let is_device =
        |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    if rustix::fs::stat(path).is_ok_and(is_device) {
        // Not one that is mounted, or a part of another.
        flags |= OFlags::EXCL;
    }
    let mode = Mode::RUSR | Mode::WUSR;
    let with = |flags| match rustix::fs::open(path, flags, mode) {
        Err(Errno::NOENT) => rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, mode)
            .map(|file| (file, true)),
        opened => opened.map(|file| (file, false)),
    };
    match with(flags | OFlags::DIRECT) {
        // The file was made all the same.
        Err(Errno::INVAL) => with(flags),
        opened => opened,
    }
}

/// The bytes that a read has to begin and end at multiples of.
fn align(file: &OwnedFd, is_file: bool) -> usize {
    /// In memory there is nothing to go past (linux/magic.h). A device's node is in such a file system,
    /// too, which says nothing of the device.
    const TMPFS: i128 = 0x0102_1994;
    let is_memory = |stat: rustix::fs::StatFs| i128::from(stat.f_type) == TMPFS;
    if is_file && rustix::fs::fstatfs(file).is_ok_and(is_memory) {
        return 1;
    }
    let wanted = StatxFlags::DIOALIGN;
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, wanted);
    let known = stat.ok().filter(|stat| stat.stx_mask & wanted.bits() != 0);
    let align = known.and_then(|stat| usize::try_from(stat.stx_dio_offset_align).ok());
    match align {
        // It cannot, so that it is read through the page cache.
        Some(0) => 1,
        Some(align) if align.is_power_of_two() && align <= PAGE_SIZE => align,
        _ => PAGE_SIZE,
    }
}

/// The version, and what slots are large.
fn layout() -> u64 {
    VERSION | SpillArea::UNIT << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_not_taken_for_memory_because_its_node_is_there() {
        // Any node in /dev does.
        let node = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty()).unwrap();
        assert_eq!(align(&node, false), PAGE_SIZE);
    }
}
