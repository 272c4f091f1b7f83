// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Steady random overwrites of a store that is half full, and of one that is nearly full.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tmem_store::{ClientConfig, ObjectId, Page, PoolConfig, PoolKind, Store, StoreConfig};

use crate::corpus::is_same_filled;
use crate::report::Report;
use crate::samples::median;

const LIMIT: u64 = 128 << 20;

/// Parts of the limit that are held, in percent.
const FULL: [u64; 2] = [50, 90];

/// Each is measured so often, in turns, for so long.
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(3);

const OBJECT: ObjectId = [9; 24];

/// What came of one round.
struct Round {
    /// Puts in a second.
    rate: f64,
    refused: u64,
    /// Bytes moved by the cleaner for each byte that was kept of what was put.
    moved: f64,
}

/// Measures puts with one of a store's clients, while its background thread works.
pub(crate) fn run(sort: &str, pages: &[Page], report: &mut Report) -> Result<()> {
    let varied: Vec<&Page> = pages.iter().filter(|page| !is_same_filled(page)).collect();
    let mut rates = [Vec::new(), Vec::new()];
    let (mut refused, mut moved) = ([0, 0], [0.0, 0.0]);
    for _ in 0..ROUNDS {
        for (nth, percent) in FULL.into_iter().enumerate() {
            let round = round(&varied, percent)?;
            if let Some(rates) = rates.get_mut(nth) {
                rates.push(round.rate);
            }
            if let (Some(all), Some(most)) = (refused.get_mut(nth), moved.get_mut(nth)) {
                *all += round.refused;
                *most = round.moved.max(*most);
            }
        }
    }
    for (nth, percent) in FULL.into_iter().enumerate() {
        let of = format!("{sort}: overwrites at {percent} % of the limit");
        let rate = rates
            .get(nth)
            .and_then(|rates| median(rates.iter().copied()));
        let rate = rate.unwrap_or(f64::NAN);
        report.metric(format!("{of}, puts per second, median"), rate, "");
        let count = refused.get(nth).copied().unwrap_or(0);
        report.metric(
            format!("{of}, refused"),
            f64::from(u32::try_from(count)?),
            "",
        );
        let bytes = moved.get(nth).copied().unwrap_or(0.0);
        report.metric(format!("{of}, moved per byte kept, at most"), bytes, "");
    }
    let [half, full] = rates.map(|rates| median(rates).unwrap_or(f64::NAN));
    let target = if full >= 0.8 * half { "met" } else { "missed" };
    report.note(format!(
        "{sort}: overwrites at 90 % beside those at 50 %: {:.2}x, target at least 0.8x: {target}",
        full / half
    ));
    Ok(())
}

fn round(pages: &[&Page], percent: u64) -> Result<Round> {
    let store = Store::new(StoreConfig::with_limit(LIMIT))?;
    let _background = store.start_compressor()?;
    let client = store.add_client(ClientConfig::new("bench", LIMIT))?;
    client.create_pool(0, PoolConfig::new(PoolKind::Persistent))?;
    let pool = client.pool(0).context("the store lost its pool")?;
    let mut random = 1_u64;
    let mut next = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(random >> 33).unwrap_or(0)
    };
    let any = |number: usize| {
        let page = pages.get(number % pages.len().max(1));
        page.copied().context("there are no pages")
    };
    // Until as much is held, whatever waits to be compressed meanwhile.
    let mut count = 0;
    loop {
        while store.compress_some(256) > 0 {}
        if store.held_bytes() * 100 >= LIMIT * percent {
            break;
        }
        for _ in 0..64 {
            let _ = pool.put(&OBJECT, count, any(next())?);
            count += 1;
        }
    }
    let before = client.stats();
    let (start, mut puts, mut refused) = (Instant::now(), 0_u64, 0_u64);
    while start.elapsed() < ROUND {
        for _ in 0..64 {
            let index = next() as u64 % count;
            let put = pool.put(&OBJECT, index, any(next())?);
            refused += u64::from(put.result.is_err());
            puts += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = client.stats();
    let kept = after.held_bytes as f64 / count as f64 * puts as f64;
    Ok(Round {
        rate: puts as f64 / seconds,
        refused,
        moved: (after.moved_bytes - before.moved_bytes) as f64 / kept,
    })
}
