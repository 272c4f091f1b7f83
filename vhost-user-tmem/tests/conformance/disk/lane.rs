// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A queue of a disk with many requests under way, and a model of its blocks.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::front_end::{AVAILABLE, FrontEnd, GUEST, USED};

/// Bytes of guest memory for a lane.
pub(super) const BYTES: u64 = 1 << 20;

/// Blocks that a lane has for itself.
const BLOCKS: u64 = 256;

const SIZE: u16 = 256;
/// Where the slots of requests are, and the bytes of each: header, status, data.
const SLOTS: u64 = 0x1_0000;
const SLOT: u64 = 0x3000;
const STATUS: u64 = 0x100;
const DATA: u64 = 0x1000;
/// Requests under way at the same time.
const MOST: u64 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// The whole block, with content from this seed.
    Write(u64),
    /// Its second sector.
    WriteSector(u64),
    Read,
    Discard,
}

/// Content from a seed: half of it repeats.
fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut content = vec![seed.to_le_bytes()[0]; bytes];
    random.fill(&mut content[..bytes / 2]);
    content
}

pub(super) struct Lane {
    memory: File,
    kick: OwnedFd,
    /// Where its part of guest memory, and its first block are.
    at: u64,
    first: u64,
    next: u16,
    random: fastrand::Rng,
    /// What blocks have that are not zeros.
    model: BTreeMap<u64, Vec<u8>>,
    writes: u64,
    /// Requests that were answered.
    pub(super) answered: u64,
}

impl Lane {
    /// On this queue of the front end's, which is started.
    pub(super) fn start(a: &mut FrontEnd, queue: u32, seed: u64) -> Self {
        let at = BYTES * u64::from(queue);
        a.turn_to(queue, at);
        a.start();
        Self {
            memory: a.memory.try_clone().unwrap(),
            kick: a.kick_event(),
            at,
            first: BLOCKS * u64::from(queue),
            next: 0,
            random: fastrand::Rng::with_seed(seed),
            model: BTreeMap::new(),
            writes: 0,
            answered: 0,
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, self.at + offset).unwrap();
    }

    fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        let offset = self.at + offset;
        self.memory.read_exact_at(&mut read, offset).unwrap();
        read
    }

    fn used(&self) -> u16 {
        u16::from_le_bytes(self.read(USED + 2, 2).try_into().unwrap())
    }

    fn descriptor(&self, nth: u16, offset: u64, bytes: u32, flags: u16) {
        let mut descriptor = (GUEST + self.at + offset).to_le_bytes().to_vec();
        descriptor.extend(bytes.to_le_bytes());
        descriptor.extend(flags.to_le_bytes());
        descriptor.extend((nth + 1).to_le_bytes());
        self.write(16 * u64::from(nth), &descriptor);
    }

    /// Lays a request out in a slot, and puts it into the available ring.
    fn lay(&mut self, slot: u16, block: u64, ask: Ask) {
        const NEXT: u16 = 1;
        const WRITE: u16 = 2;
        let start = SLOTS + SLOT * u64::from(slot);
        let sector = 8 * (self.first + block);
        let (kind, sector, bytes, flags) = match ask {
            Ask::Read => (0_u32, sector, 4096, NEXT | WRITE),
            Ask::Write(_) => (1, sector, 4096, NEXT),
            Ask::WriteSector(_) => (1, sector + 1, 512, NEXT),
            Ask::Discard => (11, 0, 16, NEXT),
        };
        let mut header = kind.to_le_bytes().to_vec();
        header.extend(0u32.to_le_bytes());
        header.extend(sector.to_le_bytes());
        self.write(start, &header);
        self.write(start + STATUS, &[0xee]);
        let data = match ask {
            Ask::Read => vec![0xcc; 4096],
            Ask::Write(seed) => content(seed, 4096),
            Ask::WriteSector(seed) => content(seed, 512),
            Ask::Discard => {
                let mut range = (8 * (self.first + block)).to_le_bytes().to_vec();
                range.extend(8u32.to_le_bytes());
                range.extend(0u32.to_le_bytes());
                range
            }
        };
        self.write(start + DATA, &data);
        let first = 4 * slot;
        self.descriptor(first, start, 16, NEXT);
        self.descriptor(first + 1, start + DATA, bytes, flags);
        self.descriptor(first + 2, start + STATUS, 1, WRITE);
        let entry = AVAILABLE + 4 + 2 * u64::from(self.next % SIZE);
        self.write(entry, &first.to_le_bytes());
        self.next = self.next.wrapping_add(1);
    }

    fn choose(&mut self) -> Ask {
        self.writes += 1;
        match self.random.u8(..10) {
            0..=3 => Ask::Write(self.writes),
            4 => Ask::WriteSector(self.writes),
            5..=8 => Ask::Read,
            _ => Ask::Discard,
        }
    }

    /// Has some requests done, of another block each, and judges the answers.
    pub(super) fn round(&mut self) {
        let count = self.random.u64(1..=MOST);
        let from = self.random.u64(..BLOCKS);
        let asked: Vec<_> = (0..count)
            .map(|nth| ((from + 7 * nth) % BLOCKS, self.choose()))
            .collect();
        self.run(&asked);
    }

    /// Reads all blocks.
    pub(super) fn check_all(&mut self) {
        let all: Vec<_> = (0..BLOCKS).map(|block| (block, Ask::Read)).collect();
        for some in all.chunks(usize::try_from(MOST).unwrap()) {
            self.run(some);
        }
    }

    fn run(&mut self, asked: &[(u64, Ask)]) {
        for (slot, (block, ask)) in (0u16..).zip(asked) {
            self.lay(slot, *block, *ask);
        }
        self.write(AVAILABLE + 2, &self.next.to_le_bytes());
        rustix::io::write(&self.kick, &1u64.to_ne_bytes()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.used() != self.next {
            assert!(Instant::now() < deadline, "requests are not answered");
            std::thread::sleep(Duration::from_micros(100));
        }
        for (slot, (block, ask)) in (0u16..).zip(asked) {
            self.judge(slot, *block, *ask);
            self.answered += 1;
        }
    }

    fn judge(&mut self, slot: u16, block: u64, ask: Ask) {
        let start = SLOTS + SLOT * u64::from(slot);
        assert_eq!(self.read(start + STATUS, 1), [0], "{ask:?} of {block}");
        let there = self.model.get(&block).cloned();
        let mut there = there.unwrap_or_else(|| vec![0; 4096]);
        match ask {
            Ask::Write(seed) => there = content(seed, 4096),
            Ask::WriteSector(seed) => there[512..1024].copy_from_slice(&content(seed, 512)),
            Ask::Discard => there.fill(0),
            Ask::Read => {
                let found = self.read(start + DATA, 4096);
                assert!(found == there, "{block}: other content");
            }
        }
        self.model.insert(block, there);
    }
}
