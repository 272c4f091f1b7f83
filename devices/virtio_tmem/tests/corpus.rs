// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Replays the fuzz targets' corpus.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use virtio_tmem::testing::fuzz::{chains, histories, page_memory, seeds};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

fn replay(target: &str, run: impl Fn(&[u8])) {
    let dir = corpus().join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        // Shown if the test fails.
        println!("{}", path.display());
        run(&fs::read(path).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "no corpus in {}", dir.display());
}

#[test]
fn the_corpus_of_chains_runs() {
    replay("chains", chains);
}

#[test]
fn the_corpus_of_histories_runs() {
    replay("histories", histories);
}

#[test]
fn the_corpus_of_page_memory_runs() {
    replay("page_memory", page_memory);
}

proptest! {
    /// What the fuzzer does all the time, for a moment.
    #[test]
    fn page_memory_is_believed_only_if_it_is_right(
        seed in prop::sample::select(seeds_of("page_memory")),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
    ) {
        let mut bytes = seed;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        page_memory(&bytes);
    }
}

fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    let seeds = seeds().into_iter().filter(|(of, ..)| *of == target);
    seeds.map(|(.., bytes)| bytes).collect()
}

/// `TMEM_WRITE_SEEDS=1 cargo test -p virtio-tmem --test corpus` writes them.
#[test]
fn the_seeds_are_committed_as_they_are_made() {
    for (target, name, bytes) in seeds() {
        let path = corpus().join(target).join(name);
        if std::env::var_os("TMEM_WRITE_SEEDS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let committed = fs::read(&path).unwrap_or_default();
        assert!(committed == bytes, "{} is not up to date", path.display());
    }
}
