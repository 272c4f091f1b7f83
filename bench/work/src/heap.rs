// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The heap of a service that has records in memory: filled once, then used now
//! and then, and idle in between.
//!
//! Pages are used in runs in a scattered order, as programs use theirs. The first
//! touch of each is timed: it is where one waits for a page that is elsewhere.

use crate::histogram::Histogram;
use crate::objects;
use crate::sum::Sum;
use fastrand::Rng;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;
use std::time::Instant;

/// Bytes in a page.
const PAGE: usize = 4096;

/// Pages that are used one after the other.
const RUN: usize = 16;

/// One page in so many gets other records each time it is used.
const RENEWED: usize = 4;

/// What names a page, before its records.
const NAME: usize = 16;

/// Bytes of records that pages are cut out of: making each anew takes an emulated CPU
/// longer than all that is done with it.
const STOCK: usize = 1 << 20;

#[derive(Clone)]
#[repr(align(4096))]
struct Page([u8; PAGE]);

/// What one use of the heap came to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Use {
    /// Pages that were used: all.
    pub pages: u64,
    /// Those whose content was not what it must be.
    pub wrong: u64,
    /// Times of first touches.
    pub touches: Histogram,
    /// All of them.
    pub touch_microseconds: u64,
    /// The whole use: touching, comparing and renewing.
    pub microseconds: u64,
}

/// Records in memory.
pub struct Heap {
    pages: Vec<Page>,
    /// What each page's bytes must come to.
    sums: Vec<u64>,
    generation: u64,
    seed: u64,
    stock: Vec<u8>,
}

impl Heap {
    /// Fills `mib` MiB with records that follow from `seed`.
    pub fn fill(mib: usize, seed: u64) -> Self {
        let count = mib * ((1 << 20) / PAGE);
        let mut pages = Vec::with_capacity(count);
        let mut sums = Vec::with_capacity(count);
        let stock = objects::make(&mut Rng::with_seed(seed), STOCK);
        let mut page = Page([0; PAGE]);
        for number in 0..count {
            write(&mut page, &stock, seed, number as u64, 0);
            sums.push(sum(&page));
            pages.push(page.clone());
        }
        Self {
            pages,
            sums,
            generation: 0,
            seed,
            stock,
        }
    }

    /// Touches and compares every page, and renews some.
    pub fn use_all(&mut self) -> Use {
        self.generation += 1;
        let start = Instant::now();
        let mut outcome = Use::default();
        let mut touching = Duration::ZERO;
        let mut runs: Vec<usize> = (0..self.pages.len().div_ceil(RUN)).collect();
        Rng::with_seed(self.seed ^ self.generation).shuffle(&mut runs);
        for number in runs.iter().flat_map(|run| run * RUN..(run + 1) * RUN) {
            let (Some(page), Some(right)) = (self.pages.get_mut(number), self.sums.get_mut(number))
            else {
                continue;
            };
            let before = Instant::now();
            touch(page);
            let time = before.elapsed();
            touching += time;
            outcome.touches.add(time);
            outcome.pages += 1;
            outcome.wrong += u64::from(sum(page) != *right);
            if (number as u64 + self.generation).is_multiple_of(RENEWED as u64) {
                write(page, &self.stock, self.seed, number as u64, self.generation);
                *right = sum(page);
            }
        }
        outcome.touch_microseconds = microseconds(touching);
        outcome.microseconds = microseconds(start.elapsed());
        outcome
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Reads one byte, whatever the compiler thinks of it.
fn touch(page: &Page) {
    let first: *const u8 = page.0.as_ptr();
    // SAFETY: It points to the first byte of a page that is borrowed.
    let byte = unsafe { first.read_volatile() };
    std::hint::black_box(byte);
}

fn sum(page: &Page) -> u64 {
    let mut sum = Sum::default();
    sum.add(&page.0);
    sum.value()
}

/// Writes the page's name, and records from anywhere in the stock.
fn write(page: &mut Page, stock: &[u8], seed: u64, number: u64, generation: u64) {
    let (name, rest) = page.0.split_at_mut(NAME);
    for (bytes, word) in name.chunks_exact_mut(8).zip([number, generation]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut random = Rng::with_seed(seed ^ number.rotate_left(32) ^ generation.rotate_left(56));
    let from = random.usize(..stock.len().saturating_sub(PAGE).max(1));
    if let Some(records) = stock.get(from..from + rest.len()) {
        rest.copy_from_slice(records);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_used_and_a_wrong_one_is_noticed() {
        let mut heap = Heap::fill(3, 1);
        let first = heap.use_all();
        assert_eq!((first.pages, first.wrong), (768, 0));
        assert!(first.touches.quantile(1000).is_some());
        heap.pages[77].0[4000] ^= 1;
        heap.pages.swap(100, 300);
        assert_eq!(heap.use_all().wrong, 3);
    }

    #[test]
    fn some_pages_are_renewed_each_time() {
        let mut heap = Heap::fill(1, 1);
        let old = heap.pages.clone();
        heap.use_all();
        let changed = old.iter().zip(&heap.pages).filter(|(a, b)| a.0 != b.0);
        assert_eq!(changed.count(), 64);
        heap.pages = old;
        assert_eq!(heap.use_all().wrong, 64);
    }
}
