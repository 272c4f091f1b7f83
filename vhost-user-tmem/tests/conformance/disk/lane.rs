// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A queue of a disk with many requests under way, and a model of its blocks.

use std::collections::BTreeMap;

use crate::front_end::FrontEnd;
use crate::slots::{BYTES, Buffer, MOST, Slots};

/// Blocks that a lane has for itself.
const BLOCKS: u64 = 256;

/// Where status and data of a request are in its slot, after the header.
const STATUS: u64 = 0x100;
const DATA: u64 = 0x1000;

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
    slots: Slots,
    first: u64,
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
        Self {
            slots: Slots::start(a, queue, BYTES * u64::from(queue)),
            first: BLOCKS * u64::from(queue),
            random: fastrand::Rng::with_seed(seed),
            model: BTreeMap::new(),
            writes: 0,
            answered: 0,
        }
    }

    /// Lays a request out in a slot, and puts it into the available ring.
    fn lay(&mut self, slot: u16, block: u64, ask: Ask) {
        let start = Slots::place(slot);
        let sector = 8 * (self.first + block);
        let (kind, sector, bytes) = match ask {
            Ask::Read => (0_u32, sector, 4096),
            Ask::Write(_) => (1, sector, 4096),
            Ask::WriteSector(_) => (1, sector + 1, 512),
            Ask::Discard => (11, 0, 16),
        };
        let mut header = kind.to_le_bytes().to_vec();
        header.extend(0u32.to_le_bytes());
        header.extend(sector.to_le_bytes());
        self.slots.write(start, &header);
        self.slots.write(start + STATUS, &[0xee]);
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
        self.slots.write(start + DATA, &data);
        let data = match ask {
            Ask::Read => Buffer::writable(start + DATA, bytes),
            _ => Buffer::readable(start + DATA, bytes),
        };
        let (header, status) = (
            Buffer::readable(start, 16),
            Buffer::writable(start + STATUS, 1),
        );
        self.slots.lay(&[header, data, status]);
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
        self.slots.run();
        for (slot, (block, ask)) in (0u16..).zip(asked) {
            self.judge(slot, *block, *ask);
            self.answered += 1;
        }
    }

    fn judge(&mut self, slot: u16, block: u64, ask: Ask) {
        let start = Slots::place(slot);
        assert_eq!(
            self.slots.read(start + STATUS, 1),
            [0],
            "{ask:?} of {block}"
        );
        let there = self.model.get(&block).cloned();
        let mut there = there.unwrap_or_else(|| vec![0; 4096]);
        match ask {
            Ask::Write(seed) => there = content(seed, 4096),
            Ask::WriteSector(seed) => there[512..1024].copy_from_slice(&content(seed, 512)),
            Ask::Discard => there.fill(0),
            Ask::Read => {
                let found = self.slots.read(start + DATA, 4096);
                assert!(found == there, "{block}: other content");
            }
        }
        self.model.insert(block, there);
    }
}
