// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A file or block device as a place for segments. The first 128 KiB of it are its own.

use super::ring::{Ring, RingRead};
use super::{Aligned, Area, Blocks, Reading, SEGMENT_BYTES, SegmentKey, WINDOW};
use crate::types::PAGE_SIZE;
use crate::words;
use rustix::fs::{AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

/// A file or block device that a store may spill to. Nobody else uses it as one meanwhile.
#[derive(Debug)]
pub struct SpillArea {
    file: Arc<File>,
    path: PathBuf,
    bytes: u64,
    /// Reads begin and end at multiples of so many bytes, at most a page.
    align: usize,
    identity: AtomicU64,
    /// By which pages of a run are read together.
    ring: io::Result<Arc<Ring>>,
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
        let align = align(&file, is_file);
        let file = File::from(file);
        let area = Self {
            path: path.into(),
            bytes,
            align,
            ring: ring(&file, is_file),
            file: Arc::new(file),
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

    /// Whether pages that are asked for in one request are read together, by an io_uring.
    ///
    /// # Errors
    /// Why they are not: the kernel does not allow it ([`io::ErrorKind::PermissionDenied`]), has no io_uring, or the file
    /// is in memory ([`io::ErrorKind::Unsupported`]).
    pub fn reads_together(&self) -> Result<(), &io::Error> {
        self.ring.as_ref().map(drop)
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

    fn reads_ahead(&self) -> bool {
        self.ring.is_ok()
    }

    fn begin(&self, segment: SegmentKey, offset: usize, len: usize) -> Option<Box<dyn Reading>> {
        let ring = self.ring.as_ref().ok()?;
        let blocks = Blocks::around(offset, len, self.align);
        let start = start(segment) + blocks.start as u64;
        Some(Box::new(Begun {
            read: ring.begin(start, blocks.len)?,
            file: self.file.clone(),
            start,
            blocks,
        }))
    }

    fn write(&self, segment: SegmentKey, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, start(segment))
    }
}

/// A read that is under way, of whole blocks.
#[derive(Debug)]
struct Begun {
    read: RingRead,
    file: Arc<File>,
    /// Bytes of the file before them.
    start: u64,
    blocks: Blocks,
}

impl Reading for Begun {
    fn finish(
        self: Box<Self>,
        bytes: &mut [u8],
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let Blocks { len, skipped, .. } = self.blocks;
        match self.read.finish(skipped, bytes, go_on) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                // The thread that had told the kernel of it may have ended, so that it was cancelled.
                let mut window = Aligned::<WINDOW>::new();
                let blocks = window.get_mut(..len);
                let blocks = blocks.ok_or(io::ErrorKind::InvalidInput)?;
                self.file.read_exact_at(blocks, self.start)?;
                let read = blocks.get(skipped..skipped + bytes.len());
                bytes.copy_from_slice(read.ok_or(io::ErrorKind::InvalidInput)?);
                Ok(())
            }
            other => other,
        }
    }
}

/// A ring for what is read past the page cache: what is in memory is there at once.
fn ring(file: &File, is_file: bool) -> io::Result<Arc<Ring>> {
    let is_direct = rustix::fs::fcntl_getfl(file)?.contains(OFlags::DIRECT);
    if !is_direct || (is_file && is_in_memory(file)) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // The kernel takes a ring down some time after its process has ended. What is locked, or claimed, is free
    // before that: the ring has it opened anew, to be read only.
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    Ring::new(&rustix::fs::open(again, flags, Mode::empty())?.into())
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
    if is_file && is_in_memory(file) {
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

/// Whether a file is in memory, where there is nothing to go past. A device's node is in such a file
/// system, too, which says nothing of the device.
fn is_in_memory(file: impl AsFd) -> bool {
    /// linux/magic.h
    const TMPFS: i128 = 0x0102_1994;
    rustix::fs::fstatfs(file).is_ok_and(|stat| i128::from(stat.f_type) == TMPFS)
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
