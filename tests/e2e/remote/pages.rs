// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A store with remote memory, and what should be in it.

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::collections::BTreeMap;
use tmem_remote::Settings;
use tmem_remote::Valkey;
use tmem_store::Client;
use tmem_store::ClientConfig;
use tmem_store::Compressor;
use tmem_store::Demoter;
use tmem_store::PAGE_SIZE;
use tmem_store::Page;
use tmem_store::Pool;
use tmem_store::PoolConfig;
use tmem_store::PoolKind;
use tmem_store::Refused;
use tmem_store::Store;
use tmem_store::StoreConfig;

const OBJECT: [u8; 24] = [7; 24];

/// A store with one client, and which content each of its pages should have.
pub(super) struct Pages {
    pool: Pool,
    content: BTreeMap<u64, u64>,
    random: fastrand::Rng,
    client: Option<Client>,
    /// None while nothing is to be moved.
    background: Option<(Demoter, Compressor)>,
    store: Store,
}

impl Pages {
    pub(super) fn open(url: &str, memory: u64) -> Result<Self> {
        let size = |text: &str| Ok(text.trim_end_matches('G').parse::<u64>().unwrap_or(1) << 30);
        let settings = Settings::parse(url, size).map_err(anyhow::Error::msg)?;
        let size = settings.size.context("it has no size")?;
        let remote = Valkey::open(&settings, size, || ())?;
        let store = Store::new(StoreConfig::with_limit(memory).with_spill(remote))?;
        let client = store.add_client(ClientConfig::new("vm", 1 << 30))?;
        client.create_pool(0, PoolConfig::new(PoolKind::Persistent))?;
        Ok(Self {
            pool: client.pool(0).context("the pool was made")?,
            content: BTreeMap::new(),
            random: fastrand::Rng::with_seed(3),
            client: Some(client),
            background: Some((store.start_demoter_with(|| ())?, store.start_compressor()?)),
            store,
        })
    }

    /// Has pages stay where they are from now on.
    pub(super) fn rest(&mut self) {
        self.background = None;
    }

    /// Has pages that are cold go there again.
    pub(super) fn go_on(&mut self) -> Result<()> {
        let demoter = self.store.start_demoter_with(|| ())?;
        self.background = Some((demoter, self.store.start_compressor()?));
        Ok(())
    }

    /// Pages that are remote.
    pub(super) fn remote(&self) -> u64 {
        self.store.stats().spilled_pages
    }

    /// Puts so many pages under new indexes, none of which may be refused.
    pub(super) fn put_new(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            self.put_next()
                .map_err(|why| anyhow::anyhow!("a put was refused: {why:?}"))?;
        }
        Ok(())
    }

    /// Tries to put so many pages; how many were kept and refused.
    pub(super) fn put_some_new(&mut self, count: u64) -> (u64, u64) {
        let kept = (0..count).filter(|_| self.put_next().is_ok()).count() as u64;
        (kept, count - kept)
    }

    fn put_next(&mut self) -> Result<(), Refused> {
        let index = self
            .content
            .last_key_value()
            .map_or(0, |(last, _)| last + 1);
        self.put(index)
    }

    fn put(&mut self, index: u64) -> Result<(), Refused> {
        let seed = self.random.u64(..);
        let put = self.pool.put(&OBJECT, index, &page(seed));
        match put.result {
            Ok(()) => self.content.insert(index, seed),
            // An older one is gone, too.
            Err(_) => self.content.remove(&index),
        };
        put.result
    }

    /// Overwrites, flushes and reads so many pages. A put may be refused while nothing can be moved.
    pub(super) fn churn(&mut self, count: u64) -> Result<()> {
        let last = self.content.last_key_value().map_or(0, |(last, _)| *last);
        for _ in 0..count {
            let index = self.random.u64(..=last);
            match self.random.u8(..4) {
                0 => {
                    let _ = self.put(index);
                }
                1 if self.random.bool() => {
                    self.pool.flush(&OBJECT, index, 1);
                    self.content.remove(&index);
                }
                _ => self.check(index)?,
            }
        }
        Ok(())
    }

    fn check(&self, index: u64) -> Result<()> {
        let mut found = Err("not read");
        self.pool.get_run(&OBJECT, index, 1, &mut |_, page| {
            found = page.map(|page| page.copied()).map_err(|_| "lost");
        });
        let expected = self.content.get(&index).map(|seed| page(*seed));
        ensure!(
            found == Ok(expected),
            "page {index} is {:?}",
            found.map(|page| page.is_some())
        );
        Ok(())
    }

    /// Reads all there should be, and what should not be there, as guests do: many at a time.
    pub(super) fn verify(&self) -> Result<()> {
        const RUN: u32 = 48;
        let last = self.content.last_key_value().map_or(0, |(last, _)| *last);
        for first in (0..=last).step_by(RUN as usize) {
            let mut wrong = Vec::new();
            self.pool.get_run(&OBJECT, first, RUN, &mut |nth, found| {
                let index = first + u64::from(nth);
                let expected = self.content.get(&index).map(|seed| page(*seed));
                if found != Ok(expected.as_ref()) {
                    wrong.push((index, found.map(|page| page.is_some())));
                }
            });
            ensure!(
                wrong.is_empty(),
                "pages and whether they are there: {wrong:?}"
            );
        }
        Ok(())
    }

    /// Pages that cannot be read; the others are as they should be.
    pub(super) fn count_lost(&mut self) -> Result<u64> {
        let mut lost = Vec::new();
        for index in self.content.keys() {
            let mut is_lost = false;
            self.pool
                .get_run(&OBJECT, *index, 1, &mut |_, page| is_lost = page.is_err());
            match is_lost {
                true => lost.push(*index),
                false => self.check(*index)?,
            }
        }
        for index in &lost {
            self.pool.flush(&OBJECT, *index, 1);
            self.content.remove(index);
        }
        Ok(lost.len() as u64)
    }

    /// Reads pages until `go_on` stops it; how many reads were stopped.
    pub(super) fn get_while(&self, go_on: &mut dyn FnMut() -> bool) -> u64 {
        let whole = |index: &&u64| {
            self.pool
                .get_run_while(&OBJECT, **index, 1, go_on, &mut |_, _| ())
        };
        // The first are the coldest.
        u64::from(self.content.keys().take_while(whole).count() < self.content.len())
    }

    /// Removes all pages.
    pub(super) fn drop_all(&mut self) {
        self.client = None;
        self.content.clear();
    }
}

/// A page that compresses by half.
fn page(seed: u64) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut random = fastrand::Rng::with_seed(seed);
    let (half, _) = page.split_at_mut(PAGE_SIZE / 2);
    random.fill(half);
    page
}
