// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A wrong page must not pass for a right one.

use super::*;
use std::collections::HashSet;

/// Two files of distinct bytes, 512 pages in all.
fn corpus() -> (tempfile::TempDir, Corpus) {
    let dir = tempfile::tempdir().unwrap();
    for (name, salt) in [("a", 1_u64), ("b", 2)] {
        let bytes: Vec<u8> = (0..256 * PAGE_SIZE as u64 / 8)
            .flat_map(|word| mix(word ^ (salt << 32)).to_le_bytes())
            .collect();
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let corpus = Corpus::open(dir.path()).unwrap();
    (dir, corpus)
}

fn name(seed: u64, number: u64, generation: u64) -> PageName {
    PageName {
        seed,
        number,
        generation,
    }
}

#[test]
fn a_page_follows_from_its_name() {
    let (_dir, corpus) = corpus();
    let (mut one, mut two) = ([0; PAGE_SIZE], [1; PAGE_SIZE]);
    corpus.make(name(7, 3, 0), &mut one).unwrap();
    corpus.make(name(7, 3, 0), &mut two).unwrap();
    assert_eq!(one, two);
}

#[test]
fn pages_differ_in_every_part_of_the_name() {
    let (_dir, corpus) = corpus();
    let mut seen = HashSet::new();
    for seed in 0..4 {
        for number in 0..64 {
            for generation in 0..4 {
                let mut page = [0; PAGE_SIZE];
                corpus
                    .make(name(seed, number, generation), &mut page)
                    .unwrap();
                assert!(seen.insert(page.to_vec()));
            }
        }
    }
}

#[test]
fn nearly_all_of_a_page_is_real_content() {
    let (dir, corpus) = corpus();
    let real = ["a", "b"].map(|file| fs::read(dir.path().join(file)).unwrap());
    let mut page = [0; PAGE_SIZE];
    corpus.make(name(1, 2, 3), &mut page).unwrap();
    let found = page[NAME..]
        .chunks_exact(8)
        .filter(|word| {
            real.iter()
                .any(|file| file.chunks_exact(8).any(|real| real == *word))
        })
        .count();
    // The seam may cut one word.
    assert!(found >= (PAGE_SIZE - NAME) / 8 - 1, "{found} words");
}

#[test]
fn a_foreign_page_is_named() {
    let (_dir, corpus) = corpus();
    let (mut mine, mut foreign) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
    corpus.make(name(1, 5, 0), &mut mine).unwrap();
    corpus.make(name(2, 9, 4), &mut foreign).unwrap();
    let text = describe(name(1, 5, 0), &foreign, &mine);
    assert!(text.contains("seed: 2, number: 9, generation: 4"), "{text}");
    let text = describe(name(1, 5, 0), &[0; PAGE_SIZE], &mine);
    assert!(text.contains("all zeros"), "{text}");
}

#[test]
fn too_little_content_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Corpus::open(dir.path()).is_err());
}
