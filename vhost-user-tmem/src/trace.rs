// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether a machine that comes back is the one that left.
//!
//! Pools are kept for a while when a front end leaves. A machine that was restored
//! from a snapshot must not have them: it has gone back in time, and they have not.
//! Nobody says so in vhost-user, but it shows. A front end that only connects anew
//! hands over the same files of memory; one that has restored a machine has made new
//! ones. And where it fills the same files again, the rings in them are at another
//! place than where they were left. All of them are looked at before any is served, each
//! time.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// Which file it is, among all that there are or were. A number of an inode may be
/// used again, but hardly at the same time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// How far a queue was when the device last worked on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ring {
    /// Where its used ring is.
    used_ring: u64,
    /// The used index.
    used: u16,
    /// Whether the front end has stopped it since, in an orderly way.
    is_stopped: bool,
    /// Whether it began at 0 when it was last started.
    is_anew: bool,
    /// Whether it was worked on in this connection.
    is_here: bool,
    /// Whether the device may have used one buffer more: the daemon ended between that and
    /// its note.
    #[serde(default)]
    may_be_ahead: bool,
    /// The memory, by its number, that a thread works on it with now.
    #[serde(skip)]
    at_work: Option<u64>,
}

impl Ring {
    /// Whether the device has left the used index so.
    fn was_left_at(&self, used: u16) -> bool {
        used == self.used || self.may_be_ahead && used == self.used.wrapping_add(1)
    }

    /// What a later daemon is to know, apart from how far it is.
    fn outline(&self) -> Self {
        Self {
            used: 0,
            at_work: None,
            ..*self
        }
    }
}

/// Rings of a machine that is saved, by their numbers; those that were never used are not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rings(Vec<Option<SavedRing>>);

impl Rings {
    /// How many there are, known or not.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedRing {
    /// Where its used ring is.
    used_ring: u64,
    /// The used index.
    used: u16,
}

/// What there is in guest memory for a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    used_ring: u64,
    used: u16,
}

impl Found {
    /// `None` if it cannot be read, or is not what the device would go on with.
    pub(super) fn of(queue: &Queue, mem: &GuestMemoryMmap) -> Option<Self> {
        let used_ring = queue.used_ring();
        let used = used_index(mem, used_ring)?;
        (used == queue.next_used()).then_some(Self { used_ring, used })
    }

    /// What the device would go on with.
    pub(super) fn as_set(queue: &Queue) -> Self {
        Self {
            used_ring: queue.used_ring(),
            used: queue.next_used(),
        }
    }
}

/// The index of the used ring there.
fn used_index(mem: &GuestMemoryMmap, used_ring: u64) -> Option<u16> {
    let address = GuestAddress(used_ring.checked_add(2)?);
    let index: u16 = mem.load(address, Ordering::Acquire).ok()?;
    Some(u16::from_le(index))
}

/// What becomes of a queue that is to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is served.
    Same,
    /// It is served, and is the first of a new driver's.
    Anew,
    /// It is another machine, or one that has gone back in time.
    Other,
    /// Another thread still works with earlier memory: look again.
    Busy,
    /// It is served when another queue shows which driver this is.
    Unclear,
}

/// What is known of a machine's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trace {
    regions: Vec<Region>,
    rings: Vec<Option<Ring>>,
    /// Whether all rings that are not known yet begin at 0: those of a new driver.
    is_anew: bool,
    /// Whether the driver goes on with pages that are gone.
    #[serde(default)]
    misses_pages: bool,
    /// Whether it is that of an image, and nothing is known of the memory of the machine that is
    /// restored, but what is in its rings.
    #[serde(default)]
    is_restored: bool,
    /// Whether a later daemon is to know something else than before.
    #[serde(skip)]
    has_changed: bool,
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
            ..Self::default()
        }
    }

    /// Of a machine that was saved with these rings.
    pub(crate) fn restored(rings: Rings) -> Self {
        let rings = rings.0.into_iter().map(|ring| {
            ring.map(|SavedRing { used_ring, used }| Ring {
                used_ring,
                used,
                is_stopped: false,
                is_anew: false,
                is_here: false,
                may_be_ahead: false,
                at_work: None,
            })
        });
        Self {
            rings: rings.collect(),
            is_restored: true,
            ..Self::default()
        }
    }

    /// How the rings were left.
    pub(crate) fn rings(&self) -> Rings {
        let rings = self.rings.iter().map(|ring| {
            let Ring {
                used_ring, used, ..
            } = (*ring)?;
            Some(SavedRing { used_ring, used })
        });
        Rings(rings.collect())
    }

    /// Whether a queue of this connection was started and not stopped.
    pub(super) fn runs(&self) -> bool {
        let mut rings = self.rings.iter().flatten();
        rings.any(|ring| ring.at_work.is_some() || ring.is_here && !ring.is_stopped)
    }

    /// Whether nothing is known yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.regions.is_empty() && self.rings.is_empty()
    }

    /// Whether the queue with number `at` was served.
    pub(super) fn knows(&self, at: usize) -> bool {
        self.rings.get(at).is_some_and(Option::is_some)
    }

    /// Whether the driver goes on with pages that are gone.
    pub(crate) fn misses_pages(&self) -> bool {
        self.misses_pages
    }

    /// It does, or not any more.
    pub(super) fn set_misses_pages(&mut self, misses: bool) {
        self.has_changed |= self.misses_pages != misses;
        self.misses_pages = misses;
    }

    /// Whether any queue was served.
    pub(super) fn was_served(&self) -> bool {
        self.rings.iter().any(Option::is_some)
    }

    /// Whether a thread works on another queue than `at` with memory other than `epoch`.
    pub(super) fn is_busy(&self, at: usize, epoch: u64) -> bool {
        let mut rings = self.rings.iter().enumerate();
        rings.any(|(other, ring)| {
            let with = ring.and_then(|ring| ring.at_work);
            other != at && with.is_some_and(|with| with != epoch)
        })
    }

    /// Takes over the memory of `other`.
    pub(super) fn set_memory(&mut self, other: Self) {
        self.has_changed |= self.regions != other.regions || self.is_restored;
        self.regions = other.regions;
        self.is_restored = false;
    }

    /// Whether a later daemon is to know something else than when this was asked last.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// An earlier daemon has left the rings like this, or one further: by their numbers.
    pub(crate) fn left_at(&mut self, used: impl Fn(usize) -> Option<u16>) {
        for (at, ring) in self.rings.iter_mut().enumerate() {
            if let Some(ring) = ring {
                ring.used = used(at).unwrap_or(ring.used);
                // None was worked on since it was restored.
                ring.may_be_ahead = !self.is_restored;
            }
        }
        self.leave();
    }

    /// How far each ring is that nobody works on, by its number.
    pub(crate) fn used(&self) -> impl Iterator<Item = (usize, u16)> {
        let rings = self.rings.iter().enumerate();
        let rings = rings.filter_map(|(at, ring)| Some((at, (*ring)?)));
        let idle = rings.filter(|(_, ring)| ring.at_work.is_none());
        idle.map(|(at, ring)| (at, ring.used))
    }

    /// The front end has left: what it did not stop was not stopped.
    pub(super) fn leave(&mut self) {
        self.has_changed = true;
        for ring in self.rings.iter_mut().flatten() {
            ring.is_here = false;
            ring.at_work = None;
        }
    }

    /// Nothing is known of the queues.
    pub(super) fn forget(&mut self) {
        self.has_changed = true;
        self.rings.clear();
        self.is_anew = false;
    }

    /// The front end has stopped this queue.
    pub(super) fn stopped(&mut self, at: usize) {
        if let Some(Some(ring)) = self.rings.get_mut(at)
            && ring.is_here
        {
            ring.is_stopped = true;
            self.has_changed = true;
        }
    }

    /// A thread works on the queue with number `at`, with memory number `epoch`.
    pub(super) fn begin(&mut self, at: usize, found: Found, epoch: u64) {
        let is_anew = match self.rings.get(at) {
            Some(Some(ring)) if !ring.is_stopped => ring.is_anew,
            _ => found.used == 0,
        };
        let ring = Ring {
            used_ring: found.used_ring,
            used: found.used,
            is_stopped: false,
            is_anew,
            is_here: true,
            may_be_ahead: false,
            at_work: Some(epoch),
        };
        let before = self.rings.get(at).copied().flatten();
        self.has_changed |= before.map(|before| before.outline()) != Some(ring.outline());
        self.set_ring(at, ring);
    }

    /// The queue with number `at` is left like this.
    pub(super) fn left(&mut self, at: usize, queue: &Queue) {
        if let Some(Some(ring)) = self.rings.get_mut(at) {
            ring.used_ring = queue.used_ring();
            ring.used = queue.next_used();
            ring.at_work = None;
        }
    }

    fn set_ring(&mut self, at: usize, ring: Ring) {
        if self.rings.len() <= at {
            self.rings.resize(at.saturating_add(1), None);
        }
        if let Some(place) = self.rings.get_mut(at) {
            *place = Some(ring);
        }
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
        if self.is_restored {
            return true;
        }
        // At least one, and all of them.
        overlaps.next().unwrap_or(false) && overlaps.all(|agrees| agrees)
    }

    /// Whether the queue with number `at`, `found` so in memory number `epoch`, is one of
    /// the same machine. The device alone writes used indices: one that is not what it
    /// was left at has gone back in time, or its driver has given the memory back.
    pub(super) fn judge(
        &mut self,
        at: usize,
        found: Option<Found>,
        mem: &GuestMemoryMmap,
        epoch: u64,
    ) -> Verdict {
        let this = self.rings.get(at).copied().flatten();
        let others = self.rings.iter().enumerate();
        let others = others.filter(|(other, _)| *other != at);
        let others: Vec<Ring> = others.filter_map(|(_, ring)| *ring).collect();
        if self.is_busy(at, epoch) {
            return Verdict::Busy;
        }
        let Some(found) = found else {
            return if self.was_served() {
                Verdict::Other
            } else {
                Verdict::Same
            };
        };
        let is_where_left = match this {
            Some(left) => left.used_ring == found.used_ring && left.was_left_at(found.used),
            None => !self.is_anew || found.used == 0,
        };
        let has_moved = |ring: &Ring| {
            let used = used_index(mem, ring.used_ring);
            ring.at_work.is_none() && !used.is_some_and(|used| ring.was_left_at(used))
        };
        // All were stopped, but for those that a new driver has begun with meanwhile.
        let may_be_anew = others
            .iter()
            .all(|other| other.is_stopped || other.is_anew && other.is_here && !has_moved(other));
        if !is_where_left {
            let stopped = this.is_some_and(|left| left.is_stopped);
            if !(stopped && found.used == 0 && may_be_anew) {
                return Verdict::Other;
            }
            for ring in &mut self.rings {
                *ring = ring.filter(|ring| !ring.is_stopped);
            }
            self.has_changed = true;
            self.is_anew = true;
            return Verdict::Anew;
        }
        if !others.iter().any(has_moved) {
            return Verdict::Same;
        }
        let shows_nothing = found.used == 0
            && this.is_none_or(|left| left.is_stopped || left.is_anew && left.is_here);
        if shows_nothing && may_be_anew {
            Verdict::Unclear
        } else {
            Verdict::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rustix::fs::{MemfdFlags, memfd_create};
    use vm_memory::FileOffset;

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

    const USED: [u32; 3] = [0x1000, 0x2000, 0x3000];

    fn queue(ring: u32, used: u16) -> Queue {
        let mut queue = Queue::new(256).unwrap();
        queue.set_used_ring_address(Some(ring), None);
        queue.set_next_used(used);
        queue
    }

    fn set(mem: &GuestMemoryMmap, ring: u32, used: u16) {
        let address = GuestAddress(u64::from(ring) + 2);
        mem.store(used.to_le(), address, Ordering::Release).unwrap();
    }

    /// Queues 1 and 2 are left at 700 and 9; whether they were stopped.
    fn two_rings(stopped: bool) -> (Trace, GuestMemoryMmap) {
        let mem = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x8000)]).unwrap();
        let mut trace = Trace::default();
        for (at, used) in [(1, 700), (2, 9)] {
            let ring = USED[at];
            let found = Found {
                used_ring: ring.into(),
                used: 0,
            };
            trace.begin(at, found, 0);
            trace.left(at, &queue(ring, used));
            set(&mem, ring, used);
            if stopped {
                trace.stopped(at);
            }
        }
        trace.leave();
        (trace, mem)
    }

    fn judge(trace: &mut Trace, mem: &GuestMemoryMmap, at: usize, ring: u32) -> Verdict {
        let used = used_index(mem, ring.into()).unwrap();
        let found = Found::of(&queue(ring, used), mem);
        trace.judge(at, found, mem, 0)
    }

    #[test]
    fn rings_go_on_where_they_were_left() {
        for stopped in [false, true] {
            let (mut trace, mem) = two_rings(stopped);
            assert_eq!(judge(&mut trace, &mem, 1, USED[1]), Verdict::Same);
            assert_eq!(judge(&mut trace, &mem, 2, USED[2]), Verdict::Same);
            set(&mem, USED[2], 8);
            assert_eq!(judge(&mut trace, &mem, 2, USED[2]), Verdict::Other);
            assert_eq!(judge(&mut trace, &mem, 1, USED[1]), Verdict::Other);
        }
    }

    #[test]
    fn rings_begin_anew_when_all_were_stopped() {
        for stopped in [false, true] {
            let (mut trace, mem) = two_rings(stopped);
            // The driver has given the memory of the other ring back.
            set(&mem, USED[2], 4711);
            let verdict = judge(&mut trace, &mem, 1, 0x4000);
            assert_eq!(verdict == Verdict::Anew, stopped);
            if stopped {
                let found = Found {
                    used_ring: 0x4000,
                    used: 0,
                };
                trace.begin(1, found, 0);
                trace.left(1, &queue(0x4000, 0));
                assert_eq!(judge(&mut trace, &mem, 2, 0x5000), Verdict::Same);
                set(&mem, USED[2], 9);
                assert_eq!(judge(&mut trace, &mem, 2, USED[2]), Verdict::Other);
            }
        }
    }

    #[test]
    fn a_ring_that_shows_nothing_waits_for_one_that_does() {
        let (mut trace, mem) = two_rings(true);
        set(&mem, USED[2], 8);
        assert_eq!(judge(&mut trace, &mem, 3, 0x6000), Verdict::Unclear);
        // As the event queue does.
        let found = Found {
            used_ring: 0x6000,
            used: 0,
        };
        trace.begin(3, found, 0);
        trace.left(3, &queue(0x6000, 0));
        assert_eq!(judge(&mut trace, &mem, 3, 0x6000), Verdict::Unclear);
        assert_eq!(judge(&mut trace, &mem, 1, USED[1]), Verdict::Other);
        let (mut trace, mem) = two_rings(false);
        set(&mem, USED[2], 8);
        assert_eq!(judge(&mut trace, &mem, 3, 0x6000), Verdict::Other);
    }

    #[test]
    fn earlier_memory_is_waited_for() {
        let (mut trace, mem) = two_rings(false);
        let found = Found {
            used_ring: USED[2].into(),
            used: 9,
        };
        trace.begin(2, found, 0);
        let found = Found::of(&queue(USED[1], 700), &mem);
        assert_eq!(trace.judge(1, found, &mem, 1), Verdict::Busy);
    }
}
