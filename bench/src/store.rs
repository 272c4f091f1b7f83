// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The store in this process beside its codec, C lz4, memcpy and zram.

use std::hint::black_box;

use anyhow::{Result, bail};
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use tmem_store::{
    Client, ClientConfig, Get, ObjectId, PAGE_SIZE, Page, Pool, PoolConfig, PoolKind, Store,
    StoreConfig,
};

use crate::codecs;
use crate::corpus::{Corpus, is_same_filled};
use crate::overwrites;
use crate::report::Report;
use crate::samples::Samples;
use crate::zram::Zram;

/// Compressed pages above this many bytes are kept raw by the store.
const RAW_ABOVE: usize = 3584;

/// Memory that pages are copied to, as a store has to: more than caches hold.
const COPIES: usize = 64 << 20;

const OBJECT: ObjectId = [7; 24];

/// What is measured of each page, in turn.
#[derive(Default)]
struct Times {
    memcpy: Samples,
    memcpy_away: Samples,
    flex_compress: Samples,
    flex_decompress: Samples,
    c_compress: Samples,
    c_decompress: Samples,
    put_new: Samples,
    put_replace: Samples,
    put_deferred: Samples,
    get_compressed: Samples,
    get_raw: Samples,
    zram_write: Samples,
    zram_read: Samples,
}

/// Measures process pages and file pages apart: they compress differently.
pub(crate) fn run(corpus: &Corpus, report: &mut Report) -> Result<()> {
    for (sort, pages) in [("process", &corpus.process), ("file", &corpus.file)] {
        one_sort(sort, pages, report)?;
        codecs::run(sort, pages, report)?;
        overwrites::run(sort, pages, report)?;
    }
    Ok(())
}

/// The last part of [`run`] alone.
pub(crate) fn run_overwrites(corpus: &Corpus, report: &mut Report) -> Result<()> {
    overwrites::run("process", &corpus.process, report)?;
    overwrites::run("file", &corpus.file, report)
}

fn one_sort(sort: &str, pages: &[Page], report: &mut Report) -> Result<()> {
    // A page of one repeated word costs no codec anything; it would flatter ours.
    let varied: Vec<&Page> = pages.iter().filter(|page| !is_same_filled(page)).collect();
    // One compresses at once, as beside the codecs; the other has room for all
    // pages to wait, and compresses them in the background, and between the rounds.
    let (_, client, pool) = deferring(0)?;
    let (later, _client, waiting) = deferring((pages.len() * PAGE_SIZE) as u64)?;
    let _background = later.start_compressor()?;
    let zram = Zram::create(varied.len());
    let mut times = Times::default();
    let mut copies = vec![1; COPIES];
    let mut places = copies.as_chunks_mut::<PAGE_SIZE>().0.iter_mut();
    for round in 0..2 {
        for (index, page) in (0_u64..).zip(&varied) {
            puts(&mut times, &pool, index, page, round > 0)?;
            if let Some(place) = places.next() {
                times
                    .memcpy_away
                    .time(|| place.copy_from_slice(black_box(*page)));
            }
            put_deferred(&mut times, &waiting, index, page)?;
            if let Ok(zram) = &zram {
                zram.write(index, page, &mut times.zram_write)?;
            }
        }
        while later.compress_some(64) > 0 {}
        for (index, page) in (0_u64..).zip(&varied) {
            gets(&mut times, &pool, index, page)?;
            if let Ok(zram) = &zram {
                zram.read(index, &mut times.zram_read)?;
            }
        }
    }
    if let Err(why) = &zram {
        report.note(format!("{sort}: no zram beside it: {why:#}"));
    }
    say(sort, &times, report);
    let held = client.stats().held_bytes as f64;
    report.metric(
        format!("{sort}: bytes put per byte held"),
        (varied.len() * PAGE_SIZE) as f64 / held,
        "",
    );
    report.metric(
        format!("{sort}: same-filled pages left out"),
        (pages.len() - varied.len()) as f64 / pages.len() as f64 * 100.0,
        "%",
    );
    Ok(())
}

/// A store whose pages may wait up to this many bytes, and a pool of it.
fn deferring(deferred_limit: u64) -> Result<(Store, Client, Pool)> {
    persistent(StoreConfig::with_limit(4 << 30).with_deferred_limit(deferred_limit))
}

/// A store, a client that may have all of it, and a pool of the client's.
pub(crate) fn persistent(config: StoreConfig) -> Result<(Store, Client, Pool)> {
    let store = Store::new(config)?;
    let client = store.add_client(ClientConfig::new("bench", u64::MAX).with_max_pools(1))?;
    let config = PoolConfig::new(PoolKind::Persistent);
    client.create_pool(0, config)?;
    let Some(pool) = client.pool(0) else {
        bail!("the store lost its pool");
    };
    Ok((store, client, pool))
}

fn put_deferred(times: &mut Times, pool: &Pool, index: u64, page: &Page) -> Result<()> {
    let put = times
        .put_deferred
        .time(|| pool.put(&OBJECT, index, black_box(page)));
    if put.result.is_err() {
        bail!("the store refused page {index}: {put:?}");
    }
    Ok(())
}

/// Who comes first on a page finds caches and branch predictors that do not know it: the
/// store on one page, the codecs on the next.
fn store_is_first(index: u64) -> bool {
    index.is_multiple_of(2)
}

fn puts(times: &mut Times, pool: &Pool, index: u64, page: &Page, again: bool) -> Result<()> {
    if store_is_first(index) {
        put(times, pool, index, page, again)?;
        return compress(times, page);
    }
    compress(times, page)?;
    put(times, pool, index, page, again)
}

fn compress(times: &mut Times, page: &Page) -> Result<()> {
    let mut buffer = [0; get_maximum_output_size(PAGE_SIZE)];
    times
        .flex_compress
        .time(|| compress_into(black_box(page), &mut buffer))?;
    times
        .c_compress
        .time(|| lz4::block::compress_to_buffer(black_box(page), None, false, &mut buffer))?;
    Ok(())
}

fn put(times: &mut Times, pool: &Pool, index: u64, page: &Page, again: bool) -> Result<()> {
    let samples = if again {
        &mut times.put_replace
    } else {
        &mut times.put_new
    };
    let put = samples.time(|| pool.put(&OBJECT, index, black_box(page)));
    if put.result.is_err() {
        bail!("the store refused page {index}: {put:?}");
    }
    Ok(())
}

fn gets(times: &mut Times, pool: &Pool, index: u64, page: &Page) -> Result<()> {
    let mut buffer = [0; get_maximum_output_size(PAGE_SIZE)];
    let length = compress_into(page, &mut buffer)?;
    let Some(compressed) = buffer.get(..length) else {
        bail!("lz4_flex wrote beyond its buffer");
    };
    let size = Some(i32::try_from(PAGE_SIZE)?);
    if store_is_first(index) {
        get(times, pool, index, (page, length))?;
    }
    let mut out = [0; PAGE_SIZE];
    times.memcpy.time(|| out.copy_from_slice(black_box(page)));
    black_box(&out);
    times
        .flex_decompress
        .time(|| decompress_into(black_box(compressed), &mut out))?;
    black_box(&out);
    times
        .c_decompress
        .time(|| lz4::block::decompress_to_buffer(black_box(compressed), size, &mut out))?;
    if store_is_first(index) {
        return Ok(());
    }
    get(times, pool, index, (page, length))
}

/// Gets a page that LZ4 compresses to `length` bytes.
fn get(times: &mut Times, pool: &Pool, index: u64, (page, length): (&Page, usize)) -> Result<()> {
    let mut out = [0; PAGE_SIZE];
    let samples = if length <= RAW_ABOVE {
        &mut times.get_compressed
    } else {
        &mut times.get_raw
    };
    let got = samples.time(|| pool.get(&OBJECT, index, &mut out));
    if !matches!(got, Get::Hit) || out != *page {
        bail!("the store did not bring page {index} back");
    }
    Ok(())
}

fn say(sort: &str, times: &Times, report: &mut Report) {
    let peers = [
        ("memcpy 4 KiB", &times.memcpy),
        ("memcpy 4 KiB to memory", &times.memcpy_away),
        ("lz4_flex compress", &times.flex_compress),
        ("lz4_flex decompress", &times.flex_decompress),
        ("C lz4 compress", &times.c_compress),
        ("C lz4 decompress", &times.c_decompress),
        ("zram write (lz4, O_DIRECT)", &times.zram_write),
        ("zram read (lz4, O_DIRECT)", &times.zram_read),
    ];
    for (name, samples) in peers.iter().filter(|(_, samples)| !samples.is_empty()) {
        report.metric(format!("{sort}: {name}, median"), samples.median(), "us");
        report.metric(format!("{sort}: {name}, p99"), samples.p99(), "us");
    }
    let puts = [
        ("lz4_flex compress", &times.flex_compress),
        ("C lz4 compress", &times.c_compress),
        ("memcpy 4 KiB", &times.memcpy),
        ("zram write", &times.zram_write),
    ];
    let gets = [
        ("lz4_flex decompress", &times.flex_decompress),
        ("C lz4 decompress", &times.c_decompress),
        ("memcpy 4 KiB", &times.memcpy),
        ("zram read", &times.zram_read),
    ];
    compare(
        &format!("{sort}: put, new page"),
        &times.put_new,
        &puts,
        report,
    );
    compare(
        &format!("{sort}: put, replacing"),
        &times.put_replace,
        &puts,
        report,
    );
    compare(
        &format!("{sort}: put, deferred"),
        &times.put_deferred,
        &puts,
        report,
    );
    compare(
        &format!("{sort}: get, compressed page"),
        &times.get_compressed,
        &gets,
        report,
    );
    compare(
        &format!("{sort}: get, raw page"),
        &times.get_raw,
        &gets,
        report,
    );
    let ratio = times.get_compressed.median() / times.c_decompress.median();
    report.target_at_most(&format!("{sort}: get beside C lz4"), ratio, 1.15);
    if !times.zram_write.is_empty() {
        let ratio = times.put_new.median() / times.zram_write.median();
        report.target_at_most(
            &format!("{sort}: put in line beside zram's write"),
            ratio,
            1.0,
        );
    }
    let deferred = times.put_deferred.median();
    let ratio = deferred / times.memcpy_away.median();
    report.target_at_most(
        &format!("{sort}: deferred put beside memcpy to memory"),
        ratio,
        4.0,
    );
    let ratio = times.put_deferred.p99() / deferred;
    report.target_at_most(
        &format!("{sort}: deferred put, p99 beside its median"),
        ratio,
        5.0,
    );
}

fn compare(name: &str, ours: &Samples, peers: &[(&str, &Samples)], report: &mut Report) {
    if ours.is_empty() {
        return;
    }
    report.metric(format!("{name}, p99"), ours.p99(), "us");
    for (peer, samples) in peers.iter().filter(|(_, samples)| !samples.is_empty()) {
        report.against(
            format!("{name}, median"),
            ours.median(),
            "us",
            *peer,
            samples.median(),
        );
    }
}
