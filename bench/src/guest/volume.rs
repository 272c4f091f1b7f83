// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disks that are held to a limit, below the page cache of this machine.
//!
//! QEMU's own throttling is above the page cache: what the cache has would be
//! held up as what the disk has. So the limit is here, in a file system in user
//! space (FUSE) whose files are the disks. With `cache.direct=on` every request
//! of the guest comes here; without, those that the page cache cannot serve.
//! Either way the disk is the same, and counts what it does.
//!
//! What is on a disk is in this process's memory: nothing but the limit makes
//! it slow, and what a guest writes is gone afterwards.

use crate::guest::limit::Limit;
use crate::guest::limit::Pace;
use anyhow::Context;
use anyhow::Result;
use fuser::BackgroundSession;
use fuser::Config;
use fuser::Errno;
use fuser::FileAttr;
use fuser::FileHandle;
use fuser::FileType;
use fuser::Filesystem;
use fuser::FopenFlags;
use fuser::Generation;
use fuser::INodeNo;
use fuser::InitFlags;
use fuser::KernelConfig;
use fuser::LockOwner;
use fuser::MountOption;
use fuser::OpenFlags;
use fuser::ReplyAttr;
use fuser::ReplyData;
use fuser::ReplyEmpty;
use fuser::ReplyEntry;
use fuser::ReplyOpen;
use fuser::ReplyWrite;
use fuser::Request;
use fuser::Session;
use fuser::WriteFlags;
use std::ffi::OsStr;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use tempfile::TempDir;

/// Requests that are served at a time; the others wait in the kernel.
const THREADS: usize = 8;

/// For how long the kernel need not ask again: nothing changes by itself.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// Inode of the first disk.
const FIRST: u64 = 2;

/// What a disk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) reads: u64,
    pub(crate) read_bytes: u64,
    pub(crate) writes: u64,
    pub(crate) written_bytes: u64,
}

#[derive(Default)]
struct Counters {
    operations: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    fn count(&self, bytes: u64) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

struct Disk {
    content: RwLock<Vec<u8>>,
    size: u64,
    pace: Option<Mutex<Pace>>,
    start: Instant,
    reads: Counters,
    writes: Counters,
}

impl Disk {
    /// Waits until the limit allows for an operation on `bytes`.
    fn wait(&self, bytes: u64) {
        let Some(pace) = &self.pace else {
            return;
        };
        let now = self.start.elapsed();
        let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = pace.admit(now, bytes);
        drop(pace);
        std::thread::sleep(begins.saturating_sub(self.start.elapsed()));
    }

    fn range(&self, offset: u64, length: u64) -> Option<Range<usize>> {
        let end = offset.checked_add(length)?.min(self.size);
        Some(usize::try_from(offset.min(end)).ok()?..usize::try_from(end).ok()?)
    }
}

/// Mounted disks. Whatever uses them must be gone when they are dropped.
pub(crate) struct Volumes {
    disks: Arc<Vec<Disk>>,
    // Before the directory that it is mounted on.
    _session: BackgroundSession,
    dir: TempDir,
}

impl Volumes {
    /// Mounts disks that hold what `images` do.
    pub(crate) fn mount(images: &[PathBuf], limit: Option<Limit>) -> Result<Self> {
        let disks = images.iter().map(|image| {
            let content =
                std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
            Ok(Disk {
                size: content.len() as u64,
                content: RwLock::new(content),
                pace: limit.map(|limit| Mutex::new(Pace::new(limit))),
                start: Instant::now(),
                reads: Counters::default(),
                writes: Counters::default(),
            })
        });
        let disks: Arc<Vec<Disk>> = Arc::new(disks.collect::<Result<_>>()?);
        let dir = tempfile::Builder::new()
            .prefix("tmem-volumes-")
            .tempdir()
            .context("cannot make a directory for disks")?;
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("tmem-volumes".into())];
        config.n_threads = Some(THREADS);
        let files = Files {
            disks: Arc::clone(&disks),
            // SAFETY: It has no preconditions.
            user: unsafe { libc::geteuid() },
        };
        let session = Session::new(files, dir.path(), &config)
            .and_then(Session::spawn)
            .context(
                "cannot mount a file system in user space; it takes /dev/fuse, and root or user \
                 namespaces",
            )?;
        Ok(Self {
            disks,
            _session: session,
            dir,
        })
    }

    /// The file that is the disk `number`.
    pub(crate) fn path(&self, number: usize) -> PathBuf {
        self.dir.path().join(name(number))
    }

    /// What the disk `number` has done so far.
    pub(crate) fn counts(&self, number: usize) -> Result<Counts> {
        let disk = self.disks.get(number).context("there is no such disk")?;
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Counts {
            reads: value(&disk.reads.operations),
            read_bytes: value(&disk.reads.bytes),
            writes: value(&disk.writes.operations),
            written_bytes: value(&disk.writes.bytes),
        })
    }
}

fn name(number: usize) -> String {
    format!("disk{number}")
}

struct Files {
    disks: Arc<Vec<Disk>>,
    user: u32,
}

impl Files {
    fn disk(&self, inode: INodeNo) -> Option<&Disk> {
        let number = inode.0.checked_sub(FIRST)?;
        self.disks.get(usize::try_from(number).ok()?)
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let size = match inode {
            INodeNo::ROOT => None,
            other => Some(self.disk(other)?.size),
        };
        let now = SystemTime::UNIX_EPOCH;
        Some(FileAttr {
            ino: inode,
            size: size.unwrap_or(0),
            blocks: size.unwrap_or(0) / 512,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind: match size {
                None => FileType::Directory,
                Some(_) => FileType::RegularFile,
            },
            perm: 0o700,
            nlink: 1,
            uid: self.user,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Files {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // As an image's own file system has it: what is written may stay in the page cache until
        // it is flushed. A kernel that cannot do that writes through.
        let _ = config.add_capabilities(InitFlags::FUSE_WRITEBACK_CACHE);
        // For readahead and writeback, as many as a disk's queue takes.
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let numbers = 0..self.disks.len();
        let found = numbers
            .into_iter()
            .find(|number| parent == INodeNo::ROOT && name == Path::new(&self::name(*number)))
            .and_then(|number| self.attributes(INodeNo(FIRST + number as u64)));
        match found {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<fuser::TimeOrNow>,
        _mtime: Option<fuser::TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // A disk has a size, and no times.
        self.getattr(request, inode, handle, reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // QEMU opens a disk several times.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let disk = self.disk(inode);
        let Some((disk, range)) =
            disk.and_then(|disk| Some((disk, disk.range(offset, size.into())?)))
        else {
            return reply.error(Errno::EINVAL);
        };
        disk.wait(range.len() as u64);
        disk.reads.count(range.len() as u64);
        let content = disk.content.read().unwrap_or_else(PoisonError::into_inner);
        reply.data(content.get(range).unwrap_or_default());
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(disk) = self.disk(inode) else {
            return reply.error(Errno::EINVAL);
        };
        disk.wait(data.len() as u64);
        disk.writes.count(data.len() as u64);
        let mut content = disk.content.write().unwrap_or_else(PoisonError::into_inner);
        let place = disk.range(offset, data.len() as u64);
        match place.and_then(|range| content.get_mut(range)) {
            Some(place) if place.len() == data.len() => {
                place.copy_from_slice(data);
                drop(content);
                reply.written(u32::try_from(data.len()).unwrap_or_default());
            }
            _ => reply.error(Errno::ENOSPC),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // What was written is on the disk.
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    /// Mounts a disk of `size` bytes; none where that cannot be done.
    fn mounted(size: usize) -> Option<(Volumes, Vec<u8>)> {
        let image = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..size)
            .map(|at| u8::try_from(at / 512 % 251).unwrap())
            .collect();
        std::fs::write(image.path(), &bytes).unwrap();
        match Volumes::mount(&[image.path().to_path_buf()], None) {
            Ok(volumes) => Some((volumes, bytes)),
            Err(error) => {
                eprintln!("left out: {error:#}");
                None
            }
        }
    }

    #[test]
    fn the_page_cache_serves_what_was_read() {
        let Some((volumes, bytes)) = mounted(1 << 20) else {
            return;
        };
        let path = volumes.path(0);
        assert!(std::fs::read(&path).unwrap() == bytes);
        let once = volumes.counts(0).unwrap();
        assert_eq!(once.read_bytes, 1 << 20);
        assert!(std::fs::read(&path).unwrap() == bytes);
        assert_eq!(volumes.counts(0).unwrap(), once);
    }

    #[test]
    fn what_is_written_is_on_the_disk_once_it_is_flushed() {
        let Some((volumes, _)) = mounted(1 << 20) else {
            return;
        };
        let path = volumes.path(0);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        file.write_all_at(&[7; 8192], 4096).unwrap();
        file.sync_all().unwrap();
        assert_eq!(volumes.counts(0).unwrap().written_bytes, 8192);
        let content = volumes.disks[0].content.read().unwrap();
        assert!(content[4096..12288] == [7; 8192]);
        assert!(content[12288] != 7 && content.len() == 1 << 20);
    }
}
