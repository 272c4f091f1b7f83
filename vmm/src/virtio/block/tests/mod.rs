// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk's device, driven as a guest drives it.
#![allow(clippy::cast_possible_truncation)]

mod bounds;
mod device_file;
mod hostile;
mod opening;
mod ranges;
mod requests;
mod transport;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use virtio_bindings::virtio_blk::VIRTIO_BLK_S_OK;
use virtio_tmem::testing::Span;

use super::{Block, BlockStats, Disk};
use crate::virtio::Memory;
use crate::virtio::testing::{Guest, Queue, memory};

/// Bytes of the disks here.
const SIZE: u64 = 4 << 20;

/// Reading and writing.
const IN: u32 = 0;
const OUT: u32 = 1;

const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// A file to make a disk of, filled with [`pattern`].
struct Image {
    path: PathBuf,
    file: File,
    _dir: TempDir,
}

impl Image {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.raw");
        std::fs::write(&path, pattern(0, SIZE as usize)).unwrap();
        let file = File::options().read(true).write(true).open(&path);
        Self {
            file: file.unwrap(),
            path,
            _dir: dir,
        }
    }

    fn disk(&self) -> Disk {
        Disk::open(&self.path, false).unwrap()
    }

    fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }
}

/// Bytes that say where they are, from `offset` on.
fn pattern(offset: usize, len: usize) -> Vec<u8> {
    (offset..offset + len)
        .map(|at| (at ^ at >> 8 ^ at >> 16) as u8)
        .collect()
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend(0u32.to_le_bytes());
    header.extend(sector.to_le_bytes());
    header
}

/// One range of a discard or write-zeroes request.
fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut range = sector.to_le_bytes().to_vec();
    range.extend(sectors.to_le_bytes());
    range.extend(flags.to_le_bytes());
    range
}

/// A guest whose driver runs one disk.
struct Driver<'m> {
    guest: Guest<'m>,
    queue: Queue<'m>,
    stats: Arc<BlockStats>,
    /// Where buffers begin.
    mark: u64,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
struct Done {
    status: u8,
    /// Bytes that the device says it wrote.
    len: u32,
}

const fn done(status: u8, len: u32) -> Done {
    Done { status, len }
}

impl<'m> Driver<'m> {
    /// With all features but those in `without`.
    fn new(memory: &'m Memory, disk: Disk, without: u64) -> Self {
        let block = Block::new("vda", disk);
        let stats = block.stats();
        let guest = Guest::new(memory, block.virtio().unwrap());
        let features = guest.features() & !without;
        assert_eq!(guest.negotiate(features), 0xb);
        let event_idx = features & (1 << 29) != 0;
        let queue = guest.queue(0, 256, event_idx);
        assert_eq!(guest.run(), 0xf);
        let mark = guest.mark();
        Self {
            guest,
            queue,
            stats,
            mark,
        }
    }

    /// Sends `readable` and waits; `writable` is followed by the status.
    fn request(&mut self, readable: &[Span], writable: &[Span]) -> Done {
        let status = self.guest.space(1);
        let mut writable = writable.to_vec();
        writable.push(status);
        let head = self.queue.add(readable, &writable).unwrap();
        self.guest.kick(0, &mut self.queue);
        let used = self.guest.used(&mut self.queue);
        assert_eq!(used.head, head);
        done(self.guest.bytes(&[status])[0], used.len)
    }

    /// Sends these bytes and no room for an answer.
    fn send(&mut self, bytes: &[u8]) -> Done {
        self.guest.seek(self.mark);
        let request = self.guest.put(bytes);
        self.request(&[request], &[])
    }

    fn write(&mut self, sector: u64, data: &[u8]) -> Done {
        self.send(&[header(OUT, sector), data.to_vec()].concat())
    }

    fn read(&mut self, sector: u64, len: u32) -> (Done, Vec<u8>) {
        self.guest.seek(self.mark);
        let header = self.guest.put(&header(IN, sector));
        let space = self.guest.space(len);
        let done = self.request(&[header], &[space]);
        (done, self.guest.bytes(&[space]))
    }

    /// The device still works.
    fn check_alive(&mut self) {
        let (answer, data) = self.read(1, 512);
        assert_eq!(answer, done(VIRTIO_BLK_S_OK as u8, 513));
        assert_eq!(data.len(), 512);
    }
}
