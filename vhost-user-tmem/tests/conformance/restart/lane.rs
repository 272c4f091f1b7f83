// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A queue with many requests under way, and a model that says what their answers may be.
//! From the specification of the device alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::front_end::{FrontEnd, GUEST};
use crate::request::{GET, OK, PUT, header};

const FLUSH: u16 = 5;
const REMOVE: u16 = 1;
const MISS: u8 = 16;
/// An older page was there.
const PRIOR: u8 = 0x80;

/// Bytes of guest memory for a lane.
pub(super) const BYTES: u64 = 1 << 20;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const SIZE: u16 = 256;
/// Where the slots of requests are, and the bytes of each: header, answer, page.
const SLOTS: u64 = 0x1_0000;
const SLOT: u64 = 0x3000;
const ANSWER: u64 = 0x100;
const PAGE: u64 = 0x1000;
/// Requests under way at the same time.
pub(super) const MOST: u64 = 32;

/// Pools that a lane uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pools {
    pub(super) persistent: u32,
    pub(super) ephemeral: u32,
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    Put(u64),
    Get,
    Take,
    Flush,
}

/// A page's content, from its seed: half of it repeats.
fn content(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut page = vec![seed.to_le_bytes()[0]; 4096];
    let half = page.get_mut(..2048).unwrap();
    if seed.is_multiple_of(3) {
        random.fill(half);
    } else {
        half.fill(seed.to_le_bytes()[1]);
    }
    page.get_mut(4000..4008)
        .unwrap()
        .copy_from_slice(&seed.to_le_bytes());
    page
}

pub(super) struct Lane {
    memory: File,
    kick: OwnedFd,
    at: u64,
    pools: Pools,
    next: u16,
    random: fastrand::Rng,
    /// By pool and index: the seed of the page that is there.
    model: BTreeMap<(u32, u64), u64>,
    /// Puts so far.
    puts: u64,
    /// Requests that were answered.
    pub(super) answered: u64,
}

impl Lane {
    /// On this queue of the front end's, which is started.
    pub(super) fn start(front_end: &mut FrontEnd, queue: u32, pools: Pools, seed: u64) -> Self {
        let at = BYTES * u64::from(queue - 1);
        front_end.turn_to(queue, at);
        front_end.start();
        Self {
            memory: front_end.memory.try_clone().unwrap(),
            kick: front_end.kick_event(),
            at,
            pools,
            next: 0,
            random: fastrand::Rng::with_seed(seed),
            model: BTreeMap::new(),
            puts: 0,
            answered: 0,
        }
    }

    /// The queue has been used for that many requests.
    pub(super) fn with_next(self, next: u16) -> Self {
        Self { next, ..self }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, self.at + offset).unwrap();
    }

    fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        self.memory
            .read_exact_at(&mut read, self.at + offset)
            .unwrap();
        read
    }

    fn used(&self) -> u16 {
        let bytes = self.read(USED + 2, 2);
        u16::from_le_bytes(bytes.try_into().unwrap())
    }

    fn descriptor(&self, nth: u16, offset: u64, bytes: u32, flags: u16) {
        let mut descriptor = (GUEST + self.at + offset).to_le_bytes().to_vec();
        descriptor.extend(bytes.to_le_bytes());
        descriptor.extend(flags.to_le_bytes());
        descriptor.extend((nth + 1).to_le_bytes());
        self.write(16 * u64::from(nth), &descriptor);
    }

    /// Lays a request out in a slot, and makes it available.
    fn lay(&mut self, slot: u16, pool: u32, index: u64, ask: Ask) {
        let start = SLOTS + SLOT * u64::from(slot);
        let (operation, flags) = match ask {
            Ask::Put(_) => (PUT, 0),
            Ask::Get => (GET, 0),
            Ask::Take => (GET, REMOVE),
            Ask::Flush => (FLUSH, 0),
        };
        let mut head = header(operation, pool, index, 1);
        head.get_mut(2..4)
            .unwrap()
            .copy_from_slice(&flags.to_le_bytes());
        self.write(start, &head);
        self.write(start + ANSWER, &[0xee; 24]);
        const NEXT: u16 = 1;
        const WRITE: u16 = 2;
        let first = 4 * slot;
        self.descriptor(first, start, 48, NEXT);
        match ask {
            Ask::Put(seed) => {
                self.write(start + PAGE, &content(seed));
                self.descriptor(first + 1, start + PAGE, 4096, NEXT);
                self.descriptor(first + 2, start + ANSWER, 17, WRITE);
            }
            Ask::Get | Ask::Take => {
                self.write(start + PAGE, &[0xee; 4096]);
                self.descriptor(first + 1, start + ANSWER, 17, NEXT | WRITE);
                self.descriptor(first + 2, start + PAGE, 4096, WRITE);
            }
            Ask::Flush => self.descriptor(first + 1, start + ANSWER, 16, WRITE),
        }
        let entry = AVAILABLE + 4 + 2 * u64::from(self.next % SIZE);
        self.write(entry, &first.to_le_bytes());
        self.next = self.next.wrapping_add(1);
    }

    /// Chooses some requests, of other pages each, has them done and judges the answers.
    pub(super) fn round(&mut self) {
        let count = self.random.u64(1..=MOST);
        let from = self.random.u64(..256);
        let mut asked = Vec::new();
        let first = self.next;
        for nth in 0..count {
            let index = (from + 7 * nth) % 256;
            let is_ephemeral = self.random.u8(..4) == 0;
            let pool = if is_ephemeral {
                self.pools.ephemeral
            } else {
                self.pools.persistent
            };
            let ask = match self.random.u8(..10) {
                0..=3 => {
                    self.puts += 1;
                    Ask::Put(self.puts)
                }
                4..=7 if is_ephemeral && self.random.bool() => Ask::Take,
                4..=7 => Ask::Get,
                _ => Ask::Flush,
            };
            let slot = u16::try_from(nth).unwrap();
            self.lay(slot, pool, index, ask);
            asked.push((pool, index, ask));
        }
        self.write(AVAILABLE + 2, &self.next.to_le_bytes());
        rustix::io::write(&self.kick, &1u64.to_ne_bytes()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.used() != self.next {
            assert!(Instant::now() < deadline, "requests are not answered");
            std::thread::sleep(Duration::from_micros(100));
        }
        for (slot, (pool, index, ask)) in (0u16..).zip(asked) {
            // In order, and each once.
            let entry = USED + 4 + 8 * u64::from(first.wrapping_add(slot) % SIZE);
            let head = self.read(entry, 4);
            assert_eq!(head, u32::from(4 * slot).to_le_bytes(), "what was used");
            self.judge(slot, pool, index, ask);
            self.answered += 1;
        }
    }

    fn judge(&mut self, slot: u16, pool: u32, index: u64, ask: Ask) {
        let start = SLOTS + SLOT * u64::from(slot);
        let answer = self.read(start + ANSWER, 17);
        let [status, .., page] = *answer.as_slice() else {
            unreachable!("17 bytes were read")
        };
        let at = (pool, index);
        let say = format!("{ask:?} of {at:?}: {status:#x}, {page:#x}");
        assert_eq!(status, OK, "{say}");
        let is_ephemeral = pool == self.pools.ephemeral;
        match ask {
            Ask::Put(seed) => {
                assert_eq!(page & !PRIOR, OK, "{say}");
                self.model.insert(at, seed);
            }
            Ask::Get | Ask::Take => {
                let there = self.model.get(&at).copied();
                if page == OK {
                    let found = self.read(start + PAGE, 4096);
                    assert!(there.is_some(), "{say}: none is there");
                    let is_it = there.is_some_and(|seed| found == content(seed));
                    assert!(is_it, "{say}: another page than {there:?}");
                } else {
                    assert_eq!(page, MISS, "{say}");
                    assert!(there.is_none() || is_ephemeral, "{say}: lost");
                }
                if matches!(ask, Ask::Take) || page == MISS {
                    self.model.remove(&at);
                }
            }
            Ask::Flush => {
                self.model.remove(&at);
            }
        }
    }

    /// Gets all pages that are there.
    pub(super) fn check_all(&mut self) {
        let pages: Vec<_> = self.model.keys().copied().collect();
        for pages in pages.chunks(usize::try_from(MOST).unwrap()) {
            for (slot, (pool, index)) in (0u16..).zip(pages) {
                self.lay(slot, *pool, *index, Ask::Get);
            }
            self.write(AVAILABLE + 2, &self.next.to_le_bytes());
            rustix::io::write(&self.kick, &1u64.to_ne_bytes()).unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            while self.used() != self.next {
                assert!(Instant::now() < deadline, "requests are not answered");
                std::thread::sleep(Duration::from_micros(100));
            }
            for (slot, (pool, index)) in (0u16..).zip(pages) {
                self.judge(slot, *pool, *index, Ask::Get);
            }
        }
    }
}
