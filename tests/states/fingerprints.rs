// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages are told from each other, and what is noted for a frame is about one read.

use crate::driver::fingerprint::{Fingerprint, Key, NUMBERS, STEP, WORDS};
use crate::driver::frames::{Frames, Origin, MOST_FILTERS, MOST_PAGES};
use crate::driver::ticket::Ticket;
use crate::sys::content;
use kernel::prelude::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn key(seed: u64) -> Key {
    let mut numbers = content::random(NUMBERS).unwrap();
    for number in numbers.iter_mut() {
        *number = number
            .wrapping_add(seed)
            .rotate_left(29)
            .wrapping_mul(0x2545_f491_4f6c_dd1d);
    }
    Key::new(numbers)
}

fn of(key: &Key, page: &[u64]) -> Fingerprint {
    let steps = page.chunks_exact(STEP);
    assert!(steps.remainder().is_empty());
    key.fingerprint(steps.map(|words| words.try_into().unwrap()))
}

proptest! {
    #[test]
    fn pages_that_differ_in_one_bit_have_other_fingerprints(
        seed: u64, word in 0..WORDS, bit in 0..64u32, fill: u64,
    ) {
        let (key, page) = (key(seed), vec![fill; WORDS]);
        let mut other = page.clone();
        other[word] ^= 1 << bit;
        prop_assert_eq!(of(&key, &page), of(&key, &page.clone()));
        prop_assert_ne!(of(&key, &page), of(&key, &other));
    }

    // What a sum, or a checksum that treats all words alike, does not see.
    #[test]
    fn so_have_pages_whose_words_are_exchanged(
        seed: u64, a in 0..WORDS, b in 0..WORDS, fill: u64,
    ) {
        prop_assume!(a != b && fill != 0);
        let (mut page, mut other) = (vec![0; WORDS], vec![0; WORDS]);
        page[a] = fill;
        other[b] = fill;
        prop_assert_ne!(of(&key(seed), &page), of(&key(seed), &other));
    }

    #[test]
    fn the_last_read_into_a_frame_is_noted_and_taken_once(
        notes in proptest::collection::vec((0..20u64, 1..30u32, any::<u64>()), 1..50),
    ) {
        const FRAMES: u64 = 7;
        let mut frames = Frames::new(FRAMES).unwrap();
        let mut model = BTreeMap::new();
        for (frame, filter, page) in notes {
            let origin = Origin {
                filter,
                page: page % (2 * MOST_PAGES),
                ticket: Ticket::default(),
                fingerprint: of(&key(page), &[page; STEP]),
            };
            frames.note(frame, origin);
            if origin.page < MOST_PAGES && u64::from(filter) < MOST_FILTERS {
                model.insert(frame % FRAMES, origin);
            }
        }
        for frame in 0..FRAMES {
            prop_assert_eq!(frames.take(frame), model.remove(&frame));
            prop_assert_eq!(frames.take(frame), None);
        }
    }
}

/// The highest words and keys do not overflow.
#[test]
fn the_largest_numbers_have_a_fingerprint() {
    let mut numbers = KVVec::from_elem(u64::MAX, NUMBERS, GFP_KERNEL).unwrap();
    for (at, number) in (1..).zip(numbers.iter_mut().skip(WORDS)) {
        *number = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(at);
    }
    let key = Key::new(numbers);
    assert_ne!(of(&key, &[u64::MAX; WORDS]), of(&key, &[0; WORDS]));
}
