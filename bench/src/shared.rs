// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Fifty guests that read copies of one image: what each further one costs in memory of the host and in reads
//! of a disk, with a share and with a pool for each. Counts only, which no other load disturbs.

use anyhow::{Context, Result, ensure};
use tmem_store::{
    Client, ClientConfig, Get, ObjectId, PAGE_SIZE, Page, Pool, PoolConfig, PoolKind, Store,
    StoreConfig,
};

use crate::corpus::Corpus;
use crate::report::Report;

/// Object 0, as a filter on a share has it (section 6.9 of the specification).
const OBJECT: ObjectId = [0; 24];

const GUESTS: usize = 50;

/// Bytes of the image.
const IMAGE: usize = 128 << 20;

/// Of ten pages of the image, each guest reads so many: mostly the same, and some that not all of them do.
const ALL_READ: u64 = 6;
const SOME_READ: u64 = 2;

/// What the guests have had by now.
#[derive(Clone, Copy, Default)]
struct Cost {
    held: u64,
    disk_reads: u64,
}

/// Measures both.
pub(crate) fn run(corpus: &Corpus, report: &mut Report) -> Result<()> {
    let image: Vec<&Page> = (corpus.file.iter().cycle())
        .take(IMAGE / PAGE_SIZE)
        .collect();
    ensure!(!image.is_empty(), "there are no pages of files");
    let shared = guests(&image, true)?;
    let own = guests(&image, false)?;
    let held: fn(Cost) -> f64 = |cost| cost.held as f64 / PAGE_SIZE as f64;
    let read: fn(Cost) -> f64 = |cost| cost.disk_reads as f64;
    for (what, number) in [("host memory", held), ("disk reads", read)] {
        for (of, which) in [
            ("the first guest", first as fn(&[Cost]) -> Cost),
            ("each further guest", further),
        ] {
            let [shared, own] = [&shared, &own].map(|costs| number(which(costs)));
            let name = format!("{what} of {of}, shared");
            report.against(name, shared, "pages", "pools of their own", own);
        }
    }
    let [shared, own] = [&shared, &own].map(|costs| total(costs).held as f64);
    report.against(
        "host memory of all guests, shared",
        shared,
        "bytes",
        "pools of their own",
        own,
    );
    Ok(())
}

fn first(costs: &[Cost]) -> Cost {
    costs.first().copied().unwrap_or_default()
}

fn total(costs: &[Cost]) -> Cost {
    costs.last().copied().unwrap_or_default()
}

/// On average.
fn further(costs: &[Cost]) -> Cost {
    let (first, total) = (first(costs), total(costs));
    let more = costs.len().saturating_sub(1).max(1) as u64;
    Cost {
        held: total.held.saturating_sub(first.held) / more,
        disk_reads: total.disk_reads.saturating_sub(first.disk_reads) / more,
    }
}

/// What there is after each guest.
fn guests(image: &[&Page], share: bool) -> Result<Vec<Cost>> {
    let limit = (GUESTS * IMAGE) as u64;
    let store = Store::new(StoreConfig::with_limit(limit).with_deferred_limit(0))?;
    let shared = client(&store, "golden")?;
    let mut own = Vec::new();
    let mut disk_reads = 0;
    (0..GUESTS)
        .map(|guest| {
            let pool = match share {
                true => shared.1.clone(),
                false => {
                    let made = client(&store, &format!("guest {guest}"))?;
                    let pool = made.1.clone();
                    own.push(made);
                    pool
                }
            };
            disk_reads += read(image, &pool, guest as u64)?;
            Ok(Cost {
                held: store.held_bytes(),
                disk_reads,
            })
        })
        .collect()
}

fn client(store: &Store, name: &str) -> Result<(Client, Pool)> {
    let client = store.add_client(ClientConfig::new(name, u64::MAX >> 1).with_max_pools(1))?;
    client.create_pool(0, PoolConfig::new(PoolKind::Ephemeral))?;
    let pool = client.pool(0).context("the pool is gone")?;
    Ok((client, pool))
}

/// A guest reads its part of the image, each page once; how many came from its disk.
fn read(image: &[&Page], pool: &Pool, guest: u64) -> Result<u64> {
    let mut disk_reads = 0;
    let mut found = [0; PAGE_SIZE];
    for (index, page) in (0..).zip(image) {
        if !is_read(index, guest) {
            continue;
        }
        match pool.get(&OBJECT, index, &mut found) {
            Get::Hit => ensure!(found == **page, "page {index} is wrong"),
            Get::Miss => {
                disk_reads += 1;
                let put = pool.put(&OBJECT, index, page);
                ensure!(put.result.is_ok(), "page {index} was refused: {put:?}");
            }
            Get::Lost => anyhow::bail!("page {index} is lost"),
        }
    }
    Ok(disk_reads)
}

/// Whether a guest reads a page. Which ones only some read looks like chance, and is the same in each run.
fn is_read(index: u64, guest: u64) -> bool {
    // SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    let mix = |number: u64| {
        let z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let class = mix(index) % 10;
    class < ALL_READ
        || (class < ALL_READ + 2 && mix(mix(index).wrapping_add(guest)) % 10 < SOME_READ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_read_mostly_the_same_and_some_of_their_own() {
        let of = |guest| (0..10_000).filter(|index| is_read(*index, guest)).count();
        let [one, two] = [of(0), of(1)];
        let both = (0..10_000)
            .filter(|index| is_read(*index, 0) && is_read(*index, 1))
            .count();
        assert!(
            (6_000..6_800).contains(&one) && (6_000..6_800).contains(&two),
            "{one} {two}"
        );
        assert!(both > 5_800 && both < one, "{both} of {one}");
    }

    #[test]
    fn who_comes_later_finds_what_the_first_has_put() {
        let pages: Vec<Page> = (0..64).map(|fill| [fill; PAGE_SIZE]).collect();
        let image: Vec<_> = pages.iter().collect();
        let costs = guests(&image, true).unwrap();
        let own = guests(&image, false).unwrap();
        assert_eq!(first(&costs).disk_reads, first(&own).disk_reads);
        assert!(further(&costs).disk_reads < further(&own).disk_reads / 4);
        assert!(total(&costs).held < total(&own).held / 4);
    }
}
