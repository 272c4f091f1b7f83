// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A queue with many requests under way, and a model that says what their answers may be.
//! From the specification of the device alone.

use std::collections::BTreeMap;

use crate::front_end::FrontEnd;
use crate::request::{GET, OK, PUT, header};
use crate::slots::{BYTES, Buffer, MOST, Slots};

const FLUSH: u16 = 5;
const REMOVE: u16 = 1;
const MISS: u8 = 16;
/// An older page was there.
const PRIOR: u8 = 0x80;

/// Where answer and page of a request are in its slot, after the header.
const ANSWER: u64 = 0x100;
const PAGE: u64 = 0x1000;

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
    slots: Slots,
    pools: Pools,
    random: fastrand::Rng,
    /// By pool and index: the seed of the page that is there.
    model: BTreeMap<(u32, u64), u64>,
    /// Pages of each pool that it uses.
    pages: u64,
    /// Puts so far.
    puts: u64,
    /// Requests that were answered.
    pub(super) answered: u64,
}

impl Lane {
    /// On this queue of the front end's, which is started.
    pub(super) fn start(front_end: &mut FrontEnd, queue: u32, pools: Pools, seed: u64) -> Self {
        Self {
            slots: Slots::start(front_end, queue, BYTES * u64::from(queue - 1)),
            pools,
            random: fastrand::Rng::with_seed(seed),
            model: BTreeMap::new(),
            pages: 256,
            puts: 0,
            answered: 0,
        }
    }

    /// The queue has been used for that many requests.
    pub(super) fn with_next(self, next: u16) -> Self {
        let slots = self.slots.with_next(next);
        Self { slots, ..self }
    }

    /// Uses so many pages of each pool, at least 256.
    pub(super) fn with_pages(self, pages: u64) -> Self {
        Self { pages, ..self }
    }

    /// Lays a request out in a slot, and makes it available.
    fn lay(&mut self, slot: u16, pool: u32, index: u64, ask: Ask) {
        let start = Slots::place(slot);
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
        self.slots.write(start, &head);
        self.slots.write(start + ANSWER, &[0xee; 24]);
        let head = Buffer::readable(start, 48);
        match ask {
            Ask::Put(seed) => {
                self.slots.write(start + PAGE, &content(seed));
                let page = Buffer::readable(start + PAGE, 4096);
                let answer = Buffer::writable(start + ANSWER, 17);
                self.slots.lay(&[head, page, answer]);
            }
            Ask::Get | Ask::Take => {
                self.slots.write(start + PAGE, &[0xee; 4096]);
                let answer = Buffer::writable(start + ANSWER, 17);
                let page = Buffer::writable(start + PAGE, 4096);
                self.slots.lay(&[head, answer, page]);
            }
            Ask::Flush => {
                let answer = Buffer::writable(start + ANSWER, 16);
                self.slots.lay(&[head, answer]);
            }
        }
    }

    /// Chooses some requests, of other pages each, has them done and judges the answers.
    pub(super) fn round(&mut self) {
        let count = self.random.u64(1..=MOST);
        let from = self.random.u64(..self.pages);
        let mut asked = Vec::new();
        for nth in 0..count {
            let index = (from + 7 * nth) % self.pages;
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
        self.slots.run();
        for (slot, (pool, index, ask)) in (0u16..).zip(asked) {
            self.judge(slot, pool, index, ask);
            self.answered += 1;
        }
    }

    fn judge(&mut self, slot: u16, pool: u32, index: u64, ask: Ask) {
        let start = Slots::place(slot);
        let answer = self.slots.read(start + ANSWER, 17);
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
                    let found = self.slots.read(start + PAGE, 4096);
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
            self.slots.run();
            for (slot, (pool, index)) in (0u16..).zip(pages) {
                self.judge(slot, *pool, *index, Ask::Get);
            }
        }
    }
}
