// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! All pages of a client as they are saved, and restored to another store: on one thread, from memory to
//! memory, beside a copy of the same bytes. And the client as it is cloned.

use std::time::Instant;

use anyhow::{Result, ensure};
use tmem_store::{ObjectId, PAGE_SIZE, Page, StoreConfig};

use crate::clones;
use crate::corpus::Corpus;
use crate::report::Report;
use crate::samples::median;
use crate::store::persistent;

const OBJECT: ObjectId = [6; 24];

/// Bytes of pages.
const BYTES: usize = 1 << 30;

const ROUNDS: usize = 5;

/// Bytes of pages in a second, that a restore is to make at least.
const TARGET: f64 = 1e9;

/// Measures both sorts of pages.
pub(crate) fn run(corpus: &Corpus, report: &mut Report) -> Result<()> {
    for (sort, pages) in [("process", &corpus.process), ("file", &corpus.file)] {
        one_sort(sort, pages, report)?;
    }
    clones::run(&corpus.process, report)
}

fn one_sort(sort: &str, pages: &[Page], report: &mut Report) -> Result<()> {
    let config = || StoreConfig::with_limit(4 * BYTES as u64).with_deferred_limit(0);
    let (store, origin, pool) = persistent(config())?;
    let count = (BYTES / PAGE_SIZE) as u64;
    for (index, page) in (0..count).zip(pages.iter().cycle()) {
        let put = pool.put(&OBJECT, index, page);
        ensure!(put.result.is_ok(), "page {index} was refused: {put:?}");
    }
    let (mut saves, mut restores, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    let mut sizes = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let segments: Vec<_> = origin.save().collect();
        saves.push(rate(start));
        sizes.push(segments.iter().map(Vec::len).sum::<usize>() as f64);

        let start = Instant::now();
        let copied = segments.concat();
        copies.push(rate(start));
        drop(copied);

        let (_other, client, _pool) = persistent(config())?;
        let start = Instant::now();
        let mut restored = 0;
        for (segment, number) in segments.iter().zip(1..) {
            restored += client.restore(segment, number)?.pages;
        }
        restores.push(rate(start));
        ensure!(restored == count, "{restored} of {count} pages are there");
    }
    let [saves, restores, copies, size] =
        [saves, restores, copies, sizes].map(|rounds| median(rounds).unwrap_or(f64::NAN));
    let held = store.held_bytes() as f64;
    report.against(format!("{sort}: bytes saved"), size, "", "bytes held", held);
    let what = format!("{sort}: bytes of pages saved in a second");
    report.against(what, saves, "", "the image copied", copies);
    let what = format!("{sort}: bytes of pages restored in a second");
    report.against(what, restores, "", "the image copied", copies);
    let what = format!("{sort}: bytes of pages restored in a second, on one CPU");
    report.target_at_least(&what, restores, TARGET);
    Ok(())
}

/// Bytes of pages in a second, if all of them took from `start` until now.
fn rate(start: Instant) -> f64 {
    BYTES as f64 / start.elapsed().as_secs_f64()
}
