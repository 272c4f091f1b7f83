// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A store with memory for a tenth of its pages and a spill area, beside one with memory for all; and
//! reads of single pages from the area beside reads of as many bytes from the same file, and runs of pages
//! beside single ones.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tmem_store::{
    Client, Compressor, Demoter, Get, ObjectId, PAGE_SIZE, Page, Pool, SpillArea, Store,
    StoreConfig,
};

use crate::corpus::{Corpus, is_same_filled};
use crate::report::Report;
use crate::samples::{Samples, median};
use crate::store::persistent;

pub(crate) const OBJECT: ObjectId = [5; 24];

/// Bytes of pages that are put, and the part of them that memory has room for, compressed or not.
const PUT: usize = 1 << 30;
const PART: u64 = 10;

const ROUNDS: usize = 3;

/// Pages that are read in a round, and runs of them.
const READS: u64 = 20_000;
const RUNS: u64 = 500;
const RUN: u32 = 32;

/// A block of memory as direct I/O wants it.
#[repr(align(4096))]
struct Block([u8; PAGE_SIZE]);

/// Where areas are: in memory, so that the code is measured and no disk.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Of spill: directory for the area. On tmpfs the code is measured and no disk.
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    spill_in: PathBuf,
}

/// Measures both sorts of pages.
pub(crate) fn run(args: &Args, corpus: &Corpus, report: &mut Report) -> Result<()> {
    for (sort, pages) in [("process", &corpus.process), ("file", &corpus.file)] {
        one_sort(args, sort, pages, report)?;
    }
    Ok(())
}

/// A store with its threads, and how fast pages were put in it.
pub(crate) struct Filled {
    pub(crate) store: Store,
    pub(crate) pool: Pool,
    pub(crate) rate: f64,
    _client: Client,
    _threads: (Compressor, Demoter),
}

fn one_sort(args: &Args, sort: &str, pages: &[Page], report: &mut Report) -> Result<()> {
    let varied: Vec<&Page> = pages.iter().filter(|page| !is_same_filled(page)).collect();
    ensure!(!varied.is_empty(), "there are no {sort} pages");
    let dir = tempfile::tempdir_in(&args.spill_in).context("no directory for the area")?;
    let path = dir.path().join("area");
    let (mut alone, mut spilling) = (Vec::new(), Vec::new());
    let (mut of_area, mut of_file) = (Samples::default(), Samples::default());
    let mut of_runs = Samples::default();
    let mut shares = Vec::new();
    for _ in 0..ROUNDS {
        let all = fill(StoreConfig::with_limit(4 * PUT as u64), &varied, PUT)?;
        let held = all.store.held_bytes();
        alone.push(all.rate);
        drop(all);
        let area = SpillArea::open(&path, Some(2 * held + (64 << 20)))?;
        let config = StoreConfig::with_limit(held / PART).with_spill(area);
        let filled = fill(config, &varied, PUT)?;
        spilling.push(filled.rate);
        let stats = filled.store.stats();
        shares.push(stats.spilled_pages as f64 / stats.persistent_pages as f64);
        read(&filled, &varied, &path, &mut of_area, &mut of_file)?;
        read_runs(&filled, &mut of_runs)?;
    }
    let [alone, spilling, share] =
        [alone, spilling, shares].map(|rounds| median(rounds).unwrap_or(f64::NAN));
    report.metric(format!("{sort}: pages in the area"), share * 100.0, "%");
    let of = format!("{sort}: puts per second while pages are demoted");
    report.against(of, spilling, "", "memory for all", alone);
    let of = format!("{sort}: read of a page in the area, median");
    report.against(
        of,
        of_area.median(),
        "us",
        "pread of 4 KiB",
        of_file.median(),
    );
    report.metric(
        format!("{sort}: read of a page in the area, p99"),
        of_area.p99(),
        "us",
    );
    report.metric(format!("{sort}: pread of 4 KiB, p99"), of_file.p99(), "us");
    let of = format!("{sort}: a page of a run of {RUN} in the area, median");
    let of_one = of_area.median();
    report.against(of, of_runs.median(), "us", "a page alone", of_one);
    let what = format!("{sort}: puts while pages are demoted, beside memory for all");
    report.target_at_least(&what, spilling / alone, 0.8);
    let what = format!("{sort}: read of a page in the area, beside pread of 4 KiB");
    report.target_at_most(&what, of_area.median() / of_file.median(), 1.3);
    Ok(())
}

/// Puts `bytes` of pages, over and over the same ones.
pub(crate) fn fill(config: StoreConfig, pages: &[&Page], bytes: usize) -> Result<Filled> {
    let (store, client, pool) = persistent(config)?;
    let threads = (store.start_compressor()?, store.start_demoter_with(|| ())?);
    let count = bytes / PAGE_SIZE;
    let start = Instant::now();
    for (index, page) in (0..).zip(pages.iter().cycle().take(count)) {
        let put = pool.put(&OBJECT, index, page);
        ensure!(put.result.is_ok(), "page {index} was refused: {put:?}");
    }
    // What waits to be compressed is work that was put off.
    while store.compress_some(256) > 0 {}
    let rate = count as f64 / start.elapsed().as_secs_f64();
    Ok(Filled {
        store,
        pool,
        rate,
        _client: client,
        _threads: threads,
    })
}

/// Reads runs of pages here and there; keeps the time of a page.
fn read_runs(filled: &Filled, of_runs: &mut Samples) -> Result<()> {
    let count = (PUT / PAGE_SIZE) as u64;
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..RUNS {
        let first = random.u64(..count / 2);
        let before = filled.store.stats().spill_read_pages;
        let (mut hits, start) = (0, Instant::now());
        filled.pool.get_run(&OBJECT, first, RUN, &mut |_, found| {
            hits += u32::from(matches!(found, Ok(Some(_))));
        });
        let time = start.elapsed();
        ensure!(hits == RUN, "{hits} pages of a run from page {first} on");
        if filled.store.stats().spill_read_pages - before == u64::from(RUN) {
            of_runs.keep(time / RUN);
        }
    }
    Ok(())
}

/// Reads pages here and there, each once, and as many bytes of the file in turn.
fn read(
    filled: &Filled,
    pages: &[&Page],
    path: &Path,
    of_area: &mut Samples,
    of_file: &mut Samples,
) -> Result<()> {
    let direct = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed())
        .open(path);
    let file = direct.or_else(|_| File::open(path));
    let file = file.context("cannot open the area")?;
    let blocks = file.metadata()?.len() / PAGE_SIZE as u64;
    let count = (PUT / PAGE_SIZE) as u64;
    let mut block = Box::new(Block([0; PAGE_SIZE]));
    let mut page = [0; PAGE_SIZE];
    let mut random = fastrand::Rng::with_seed(1);
    // The first half: the last pages are in memory.
    for _ in 0..READS {
        let index = random.u64(..count / 2);
        let before = filled.store.stats().spill_read_pages;
        let start = Instant::now();
        let get = filled.pool.get(&OBJECT, index, &mut page);
        let time = start.elapsed();
        let is_spilled = filled.store.stats().spill_read_pages > before;
        ensure!(get == Get::Hit, "page {index}: {get:?}");
        if is_spilled {
            of_area.keep(time);
        }
        let nth = usize::try_from(index)? % pages.len();
        ensure!(
            pages.get(nth).is_some_and(|it| **it == page),
            "page {index} is another"
        );
        let at = random.u64(..blocks) * PAGE_SIZE as u64;
        of_file.time(|| file.read_exact_at(&mut block.0, at))?;
    }
    Ok(())
}
