// SPDX-License-Identifier: GPL-2.0

//! Filters for filesystems: blocks that were read, in an ephemeral pool. See `blocks` for why no
//! stale block is ever read.

use super::{
    purpose::Purpose,
    Filter, //
};
use crate::{
    driver::{
        blocks::{
            Ticket,
            Way, //
        },
        parts::parts,
    },
    sys::{
        bio::{
            Bio,
            BioList,
            Op,
            Pages,
            Status, //
        },
        clone::Copies,
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

impl Filter {
    /// A read of the disk.
    pub(super) fn read_block(self: &Arc<Self>, bio: Bio) {
        self.recognise_disk();
        let is_there = |pages: &Pages| {
            self.is_serving() && self.area.cache(|blocks| blocks.look(*pages)) == Some(Way::Host)
        };
        let pages = bio.pages_from(self.origin);
        let Some(pages) = pages.filter(|_| bio.is_movable()).filter(is_there) else {
            return self.read_from_disk(bio);
        };
        let Some((bio, _, _rest)) = self.fitting(bio, pages, pages.count) else {
            return;
        };
        let flight = self.gate.enter();
        let carrier = self.carrier(bio, |original| Purpose::Get(original, self.clone(), flight));
        if let Some(carrier) = carrier {
            self.engine.gather(carrier);
        }
    }

    /// A read that the host can't serve.
    pub(super) fn read_from_disk(self: &Arc<Self>, bio: Bio) {
        let pages = bio.pages_from(self.origin);
        self.area
            .counts
            .misses
            .add(pages.map_or(0, |pages| pages.count.into()));
        let wanted = pages.filter(|_| self.is_serving() && bio.is_plain() && bio.is_kernels());
        let ticket = wanted.and_then(|pages| match self.area.cache(|blocks| blocks.look(pages)) {
            Some(Way::Disk(ticket)) => ticket,
            _ => None,
        });
        let (Some(pages), Some(ticket)) = (wanted, ticket) else {
            return self.pass(bio);
        };
        let flight = self.gate.enter();
        self.pass_as(bio, |original| {
            Purpose::Fill(original, pages, ticket, self.clone(), flight)
        });
    }

    /// A write to the disk, or a discard, or whatever else changes it.
    pub(super) fn write_block(self: &Arc<Self>, bio: Bio) {
        let pages = bio.pages_touched(self.origin);
        self.begin_write(pages);
        let flight = self.gate.enter();
        self.pass_as(bio, |original| {
            Purpose::Write(original, pages, self.clone(), flight)
        });
    }

    /// Before the disk sees a write: its pages become absent.
    fn begin_write(&self, pages: Pages) {
        let mut parts = parts(pages);
        let first = parts.next();
        let removed = self.area.cache(|blocks| {
            blocks.begin_write(pages);
            first.map_or(0, |part| blocks.remove(part))
        });
        let mut removed = removed.unwrap_or(0);
        for part in parts {
            let of_part = self.area.cache(|blocks| blocks.remove(part));
            removed += of_part.unwrap_or(0);
        }
        if removed > 0 {
            self.area.counts.invalidates.add(removed);
            self.engine.schedule_flush(&self.area);
        }
    }

    /// A write has ended.
    pub(super) fn written(&self, pages: Pages) {
        self.area.cache(|blocks| blocks.end_write(pages));
    }

    /// The host has served a read.
    pub(super) fn got(&self, original: &Bio) {
        let count = original
            .pages_from(self.origin)
            .map_or(0, |pages| pages.count);
        self.area.counts.hits.add(count.into());
    }

    /// The disk has served a read: copies what is worth it, and puts it. The reader waits for the
    /// copying only.
    pub(super) fn fill(self: &Arc<Self>, original: &Bio, pages: Pages, ticket: Ticket) {
        if !self.is_serving() || !original.is_kernels() {
            self.area.counts.skipped.add(pages.count.into());
            return;
        }
        let mut puts = BioList::new();
        let mut done = 0;
        while done < pages.count {
            let part = Pages {
                index: pages.index + u64::from(done),
                count: (pages.count - done).min(Copies::PAGES as u32),
            };
            match self.copy(original, part, done, ticket) {
                Some(put) => puts.push(put),
                None => self.area.counts.skipped.add(part.count.into()),
            }
            done += part.count;
        }
        self.area.cache(|blocks| blocks.forget_seen());
        if !puts.is_empty() {
            self.engine.dispatch(puts);
        }
    }

    /// A bio that puts some of the pages of another, which begin at its page `at`.
    fn copy(
        self: &Arc<Self>,
        original: &Bio,
        pages: Pages,
        at: u32,
        ticket: Ticket,
    ) -> Option<Bio> {
        let copies = self.copies.lock().pop()?;
        let begun = self
            .area
            .cache(|blocks| blocks.begin_put(pages, ticket, self.is_eager));
        if begun != Some(true) {
            self.copies.lock().push(copies);
            return None;
        }
        let flight = self.gate.enter();
        let clones = &self.engine.shared.clones;
        let put = clones.over(copies, Op::Write, pages, |copies| {
            Purpose::Put(copies, pages, self.clone(), flight)
        });
        match put {
            Ok(mut put) => {
                put.copy_from(original, at << kernel::page::PAGE_SHIFT);
                Some(put)
            }
            Err(copies) => {
                self.area.cache(|blocks| blocks.end_put(pages, true));
                self.copies.lock().push(copies);
                None
            }
        }
    }

    /// A put has ended.
    pub(super) fn put(self: &Arc<Self>, copies: KBox<Copies>, pages: Pages, status: Status) {
        // What the host said of each page was noted. If it said nothing, that is not the case.
        let answered = status.is_ok();
        self.area.cache(|blocks| blocks.end_put(pages, answered));
        self.copies.lock().push(copies);
        if !answered {
            self.engine.schedule_flush(&self.area);
        }
    }
}
