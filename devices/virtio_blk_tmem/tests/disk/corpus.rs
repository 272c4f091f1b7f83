// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Replays the fuzz target's corpus, and what the fuzzer does all the time, for a moment.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use virtio_blk_tmem::testing::fuzz::{blk_chains, seeds};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/blk_chains")
}

#[test]
fn the_corpus_runs() {
    let mut inputs = 0;
    for entry in fs::read_dir(corpus()).unwrap() {
        let path = entry.unwrap().path();
        // Shown if the test fails.
        println!("{}", path.display());
        blk_chains(&fs::read(path).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0);
}

/// `TMEM_WRITE_SEEDS=1 cargo test -p virtio-blk-tmem corpus` writes them.
#[test]
fn the_seeds_are_committed_as_they_are_made() {
    for (name, bytes) in seeds() {
        let path = corpus().join(name);
        if std::env::var_os("TMEM_WRITE_SEEDS").is_some() {
            fs::create_dir_all(corpus()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let committed = fs::read(&path).unwrap_or_default();
        assert!(committed == bytes, "{} is not up to date", path.display());
    }
}

proptest! {
    #[test]
    fn seeds_that_are_changed_run(
        seed in prop::sample::select(seeds()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
    ) {
        let (_, mut bytes) = seed;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        blk_chains(&bytes);
    }
}
