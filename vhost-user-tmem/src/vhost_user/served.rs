// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The memory that queues use: what the front end has announced, once it is watched
//! over.
//!
//! What is announced has a place of its own, where messages change it, and queues have another:
//! nobody touches memory whose loss would end the daemon.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tmem_host::dumps;
use virtio_tmem::device::{Lost, Watch};
use vm_memory::{GuestAddressSpace, GuestMemoryBackend, GuestMemoryMmap};

use crate::vm::Memory;

/// Slots of memory that are announced (GET_MAX_MEM_SLOTS): as many as KVM has, of which QEMU
/// keeps three.
pub(super) const MOST_REGIONS: usize = 509;

/// Memory for the queues of a connection.
pub(super) struct Served {
    memory: Memory,
    lost: Lost,
    /// The memory that is used now, and what queues still use of earlier memory.
    watched: Mutex<Vec<Watched>>,
}

struct Watched {
    memory: Arc<GuestMemoryMmap>,
    _watch: Watch,
}

impl Served {
    /// `memory` changes whenever the front end announces another.
    pub(super) fn new(memory: Memory, lost: Lost) -> Self {
        Self {
            memory,
            lost,
            watched: Mutex::default(),
        }
    }

    /// What is used now.
    pub(super) fn memory(&self) -> <Memory as GuestAddressSpace>::T {
        self.memory.memory()
    }

    /// Uses what is `announced` from now on. If it cannot be watched over, both places
    /// have what was used before.
    pub(super) fn follow(&self, announced: &Memory) -> io::Result<()> {
        let memory = announced.memory().into_inner();
        if memory.num_regions() > MOST_REGIONS {
            publish(announced, &self.memory.memory())?;
            return Err(io::Error::other(
                "more regions of memory than there are slots",
            ));
        }
        // A wish. A line in the log would be the front end's to repeat.
        dumps::leave_out(&memory);
        match Watch::new(memory.clone(), &self.lost) {
            Ok(watch) => {
                publish(&self.memory, &memory)?;
                let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                watched.retain(|earlier| Arc::strong_count(&earlier.memory) > 1);
                watched.push(Watched {
                    memory: self.memory.memory().into_inner(),
                    _watch: watch,
                });
                Ok(())
            }
            Err(error) => {
                publish(announced, &self.memory.memory())?;
                Err(error)
            }
        }
    }
}

/// Puts the same regions there.
fn publish(place: &Memory, memory: &GuestMemoryMmap) -> io::Result<()> {
    let place = place.lock();
    let place = place.map_err(|_| io::Error::other("a thread panicked that changed memory"))?;
    place.replace(memory.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    use rustix::fs::{MemfdFlags, memfd_create};
    use vm_memory::{Bytes, FileOffset, GuestAddress};

    const PAGE: u64 = 4096;

    fn file(bytes: u64) -> File {
        let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(bytes).unwrap();
        file
    }

    /// Memory of `bytes` of a file.
    fn memory(file: &File, bytes: u64) -> GuestMemoryMmap {
        let range = (
            GuestAddress(0),
            usize::try_from(bytes).unwrap(),
            Some(FileOffset::new(file.try_clone().unwrap(), 0)),
        );
        GuestMemoryMmap::from_ranges_with_files([range]).unwrap()
    }

    fn announce(place: &Memory, memory: GuestMemoryMmap) {
        place.lock().unwrap().replace(memory);
    }

    fn served() -> (Served, Memory) {
        let empty = || Memory::new(GuestMemoryMmap::new());
        (Served::new(empty(), Lost::default()), empty())
    }

    fn last(served: &Served) -> u64 {
        served.memory().last_addr().0
    }

    #[test]
    fn memory_is_used_once_it_is_watched_over() {
        let (served, announced) = served();
        let short = file(2 * PAGE);
        announce(&announced, memory(&short, 2 * PAGE));
        assert_eq!(served.memory().num_regions(), 0, "not before");
        served.follow(&announced).unwrap();
        assert_eq!(last(&served), 2 * PAGE - 1);

        announce(&announced, memory(&short, 4 * PAGE));
        assert_eq!(last(&served), 2 * PAGE - 1, "not before");
        served.follow(&announced).unwrap_err();
        assert_eq!(last(&served), 2 * PAGE - 1);
        assert_eq!(announced.memory().last_addr().0, 2 * PAGE - 1);
    }

    #[test]
    fn earlier_memory_is_watched_over_as_long_as_it_is_used() {
        let (served, announced) = served();
        let first = file(PAGE);
        announce(&announced, memory(&first, PAGE));
        served.follow(&announced).unwrap();
        let used = served.memory();
        let second = file(PAGE);
        for _ in 0..3 {
            announce(&announced, memory(&second, PAGE));
            served.follow(&announced).unwrap();
        }
        let watched = || served.watched.lock().unwrap().len();
        assert_eq!(watched(), 2);
        first.set_len(0).unwrap();
        used.write_slice(&[1], GuestAddress(0)).unwrap();
        assert!(served.lost.is_lost());
        drop(used);
        served.follow(&announced).unwrap();
        assert_eq!(watched(), 1);
    }
}
