// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One pattern, step by step: first the store at its own speed, then zram.

use crate::aging::content::Content;
use crate::aging::layout::Layout;
use crate::aging::pattern::Codecs;
use crate::aging::pattern::Pattern;
use crate::aging::row::Measured;
use crate::aging::row::Peer;
use crate::aging::row::Row;
use crate::aging::settle::Patience;
use crate::aging::settle::settle;
use crate::aging::steps::Operation;
use crate::aging::steps::Step;
use crate::aging::steps::steps;
use crate::aging::subject::Subject;
use crate::samples::Samples;
use crate::zram::Zram;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use tmem_store::PAGE_SIZE;
use tmem_store::Page;

/// A pattern that is being run.
pub(super) struct Run<'a> {
    pattern: &'a Pattern,
    codecs: Codecs,
    content: &'a Content,
    layout: Layout,
    seed: u64,
    subject: Subject,
    zram: Option<Zram>,
    /// The page that each slot has.
    kept: Vec<Option<usize>>,
}

impl<'a> Run<'a> {
    /// Sets up for at most `most` slots, with zram if `beside_zram`.
    pub(super) fn new(
        (pattern, codecs): (&'a Pattern, Codecs),
        content: &'a Content,
        most: usize,
        seed: u64,
        beside_zram: bool,
    ) -> Result<Self> {
        let layout = pattern.layout(content, most);
        let slots = layout.slots();
        ensure!(slots > 0, "too few pages for {}", pattern.name);
        Ok(Self {
            pattern,
            codecs,
            content,
            layout,
            seed,
            subject: Subject::new(pattern, codecs, slots)?,
            zram: beside_zram.then(|| Zram::create(slots)).transpose()?,
            kept: vec![None; slots],
        })
    }

    /// Measures after each step; in the end, every page must be what was put.
    pub(super) fn rows(&mut self) -> Result<Vec<Row>> {
        let steps = steps(self.layout, self.seed);
        let rows = steps.iter().map(|step| self.row(step));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        for (slot, kept) in self.kept.iter().enumerate() {
            if let Some(page) = *kept {
                let place = self.layout.place(slot);
                self.subject.check(place, self.page(page)?)?;
            }
        }
        Ok(rows)
    }

    fn page(&self, number: usize) -> Result<&'a Page> {
        self.pattern.page(self.content, self.layout, number)
    }

    fn row(&mut self, step: &Step) -> Result<Row> {
        let measured = self.step_of_store(step)?;
        let live = self.kept.iter().flatten().count() as u64;
        let pages = measured.after.pages;
        ensure!(pages == live, "the store has {pages} pages, not {live}");
        let zram = match &self.zram {
            Some(zram) => Some(self.step_of_zram(zram, step, live)?),
            None => None,
        };
        Ok(Row::new(
            self.seed,
            (self.pattern, self.codecs),
            step.name,
            &measured,
            zram,
        ))
    }

    fn step_of_store(&mut self, step: &Step) -> Result<Measured> {
        let before = self.subject.state();
        let mut put_bytes = 0;
        for operation in &step.operations {
            let (slot, page) = match *operation {
                Operation::Put { slot, page } => {
                    let place = self.layout.place(slot);
                    self.subject.put(place, self.page(page)?)?;
                    put_bytes += PAGE_SIZE as u64;
                    (slot, Some(page))
                }
                Operation::Free { slot } => {
                    self.subject.free(self.layout.place(slot))?;
                    (slot, None)
                }
            };
            *self.kept.get_mut(slot).context("no such slot")? = page;
        }
        let patience = match self.codecs {
            Codecs::Lz4 => Patience::SOON,
            Codecs::Cold => Patience::IDLE,
        };
        let (after, settle) = settle(patience, || self.subject.state());
        Ok(Measured {
            before,
            after,
            settle,
            put_bytes,
        })
    }

    /// Each slot is the page of that number of the device.
    fn step_of_zram(&self, zram: &Zram, step: &Step, live: u64) -> Result<Peer> {
        let mut times = Samples::default();
        for operation in &step.operations {
            match *operation {
                Operation::Put { slot, page } => {
                    zram.write(slot as u64, self.page(page)?, &mut times)?;
                }
                Operation::Free { slot } => zram.free(slot as u64)?,
            }
        }
        let before = zram.memory()?;
        zram.compact()?;
        let after = zram.memory()?;
        ensure!(
            after.pages == live,
            "zram has {} pages, not {live}",
            after.pages
        );
        let per_page = |bytes: u64| bytes as f64 / live as f64;
        Ok(Peer {
            before_compaction: per_page(before.used_bytes),
            after_compaction: per_page(after.used_bytes),
        })
    }
}
