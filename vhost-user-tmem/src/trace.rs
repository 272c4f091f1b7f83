// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether a machine that comes back is the one that left.
//!
//! Pools are kept for a while when a front end leaves. A machine that was restored
//! from a snapshot must not have them: it has gone back in time, and they have not.
//! Nobody says so in vhost-user, but it shows. A front end that only connects anew
//! hands over the same files of memory; one that has restored a machine has made new
//! ones. And where it fills the same files again, the rings in them are at another
//! place than where they were left.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// Which file it is, among all that there are or were. A number of an inode may be
/// used again, but hardly at the same time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
    born: Option<SystemTime>,
}

impl FileId {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            // Not every file system knows.
            born: metadata.created().ok(),
        })
    }
}

/// A region of guest memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    start: u64,
    len: u64,
    /// The file and where in it; `None` if there is none, or it cannot be told.
    file: Option<(FileId, u64)>,
}

impl Region {
    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.start.saturating_add(other.len)
            && other.start < self.start.saturating_add(self.len)
    }

    /// Whether both have the same bytes where they overlap.
    fn agrees(&self, other: &Self) -> bool {
        match (self.file, other.file) {
            (Some((one, at)), Some((two, other_at))) => {
                one == two && at.wrapping_sub(self.start) == other_at.wrapping_sub(other.start)
            }
            _ => false,
        }
    }
}

/// How far a queue was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ring {
    /// Where its used ring is.
    used_ring: u64,
    /// The used index.
    used: u16,
}

impl Ring {
    fn of(queue: &Queue) -> Self {
        Self {
            used_ring: queue.used_ring(),
            used: queue.next_used(),
        }
    }
}

/// What is known of a machine's memory when its front end leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    regions: Vec<Region>,
    rings: Vec<Option<Ring>>,
}

impl Trace {
    /// Of a machine with this memory, no queue of which was served.
    pub(super) fn of(memory: &GuestMemoryMmap) -> Self {
        let regions = memory.iter().map(|region| {
            let file = region.file_offset().and_then(|file| {
                let id = FileId::of(file.file()).ok()?;
                Some((id, file.start()))
            });
            Region {
                start: region.start_addr().0,
                len: region.len(),
                file,
            }
        });
        Self {
            regions: regions.collect(),
            rings: Vec::new(),
        }
    }

    /// The queue with number `at` was left like this.
    pub(super) fn left(&mut self, at: usize, queue: &Queue) {
        if self.rings.len() <= at {
            self.rings.resize(at + 1, None);
        }
        if let Some(ring) = self.rings.get_mut(at) {
            *ring = Some(Ring::of(queue));
        }
    }

    /// Whether any queue was served.
    pub(super) fn was_served(&self) -> bool {
        !self.rings.is_empty()
    }

    /// Takes over the memory of `other`.
    pub(super) fn set_memory(&mut self, other: Self) {
        self.regions = other.regions;
    }

    /// Whether `later` is memory of the same machine: nothing lies where something
    /// else was, and something is what it was.
    pub(super) fn is_memory_of(&self, later: &Self) -> bool {
        let mut overlaps = later.regions.iter().flat_map(|region| {
            let earlier = self.regions.iter();
            earlier
                .filter(|earlier| earlier.overlaps(region))
                .map(|earlier| earlier.agrees(region))
        });
        // At least one, and all of them.
        overlaps.next().unwrap_or(false) && overlaps.all(|agrees| agrees)
    }

    /// Whether the queue with number `at` can have come from where it was left: it is
    /// where it was, or begins anew, or is another one.
    pub(super) fn precedes(&self, at: usize, queue: &Queue) -> bool {
        let now = Ring::of(queue);
        match self.rings.get(at) {
            Some(Some(left)) => {
                left.used_ring != now.used_ring || now.used == 0 || now.used == left.used
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rustix::fs::{MemfdFlags, memfd_create};
    use virtio_queue::QueueT;
    use vm_memory::{FileOffset, GuestAddress};

    fn file() -> File {
        let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(1 << 20).unwrap();
        file
    }

    /// Regions: guest address, bytes, file, offset.
    fn trace(regions: &[(u64, usize, &File, u64)]) -> Trace {
        let ranges = regions.iter().map(|(start, bytes, file, offset)| {
            let file = FileOffset::new(file.try_clone().unwrap(), *offset);
            (GuestAddress(*start), *bytes, Some(file))
        });
        Trace::of(&GuestMemoryMmap::from_ranges_with_files(ranges).unwrap())
    }

    #[test]
    fn memory_is_the_same_when_its_files_are() {
        let (one, two) = (file(), file());
        let before = trace(&[(0, 0x4000, &one, 0), (0x8000, 0x4000, &one, 0x8000)]);
        for (same, after) in [
            (
                true,
                trace(&[(0, 0x4000, &one, 0), (0x8000, 0x4000, &one, 0x8000)]),
            ),
            // Memory was plugged, unplugged, or put together.
            (
                true,
                trace(&[(0, 0x4000, &one, 0), (0x4000, 0x1000, &two, 0)]),
            ),
            (true, trace(&[(0, 0xc000, &one, 0)])),
            // A machine of its own.
            (
                false,
                trace(&[(0, 0x4000, &two, 0), (0x8000, 0x4000, &two, 0x8000)]),
            ),
            (
                false,
                trace(&[(0, 0x4000, &one, 0), (0x8000, 0x4000, &two, 0x8000)]),
            ),
            // The same file, but other parts of it.
            (false, trace(&[(0, 0x4000, &one, 0x1000)])),
            (false, trace(&[(0x4000, 0x1000, &one, 0x4000)])),
            (false, Trace::default()),
        ] {
            assert_eq!(before.is_memory_of(&after), same, "{after:?}");
        }
    }

    #[test]
    fn ring_goes_on_where_it_was_left_or_begins_anew() {
        let queue = |ring: u32, used: u16| {
            let mut queue = Queue::new(256).unwrap();
            queue.set_used_ring_address(Some(ring), None);
            queue.set_next_used(used);
            queue
        };
        let mut trace = Trace::default();
        assert!(!trace.was_served());
        trace.left(2, &queue(0x1000, 700));
        assert!(trace.was_served());
        for (may, at, ring, used) in [
            (true, 2, 0x1000, 700),
            (true, 2, 0x1000, 0),
            (true, 2, 0x2000, 9),
            (true, 1, 0x1000, 9),
            (true, 3, 0x1000, 9),
            (false, 2, 0x1000, 699),
            (false, 2, 0x1000, 701),
        ] {
            assert_eq!(trace.precedes(at, &queue(ring, used)), may, "{at} {used}");
        }
    }
}
