// SPDX-License-Identifier: GPL-2.0

//! Filters for filesystems: blocks that were read, in an ephemeral pool. See `blocks` for why no
//! stale block is ever read.

use super::{
    purpose::Purpose,
    Filter, //
};
use crate::{
    driver::{
        blocks::Way,
        parts::parts,
        ticket::Ticket, //
    },
    sys::{
        bio::{
            Bio,
            Pages,
            Status,
            PAGE_SECTORS, //
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
        let pages = bio.pages_from(self.origin);
        let Some(pages) = pages.filter(|_| self.is_serving()) else {
            return self.read_from_disk(bio);
        };
        let found = self.area.cache(|blocks| {
            let count = blocks.alike(pages);
            (count, blocks.look(Pages { count, ..pages }))
        });
        let Some((count, way)) = found else {
            return self.read_from_disk(bio);
        };
        let Way::Host(ticket) = way else {
            return self.read_front_from_disk(bio, count, way.ticket());
        };
        if !bio.is_movable() {
            return self.read_from_disk(bio);
        }
        let (count, name) = match &self.verity {
            None => (count, None),
            Some(verity) => match verity.hash(pages.index) {
                // No two names are side by side.
                Some(hash) => (1, Some(hash)),
                None => {
                    let count = verity.want(Pages { count, ..pages });
                    self.area.counts.nameless.add(count.into());
                    return self.read_front_from_disk(bio, count, ticket);
                }
            },
        };
        let Some((bio, _, _rest)) = self.fitting(bio, pages, count) else {
            return;
        };
        let ticket = ticket.filter(|_| self.victims.is_some());
        let flight = self.gate.enter();
        let carrier = self.carrier(bio, |original| {
            Purpose::Get(original, ticket, name, self.clone(), flight)
        });
        if let Some(carrier) = carrier {
            self.engine.gather(carrier);
        }
    }

    /// The first pages of a read of the disk go there, and the rest is looked at again.
    fn read_front_from_disk(self: &Arc<Self>, bio: Bio, count: u32, ticket: Option<Ticket>) {
        let at = bio.sectors().0 + u64::from(count) * PAGE_SECTORS;
        if let Some((bio, _rest)) = self.hook.splits().cut(bio, at) {
            self.read_and_fill(bio, ticket);
        }
    }

    /// A read that the host can't serve.
    pub(super) fn read_from_disk(self: &Arc<Self>, bio: Bio) {
        let pages = bio.pages_from(self.origin).filter(|_| self.is_serving());
        let way = pages.and_then(|pages| self.area.cache(|blocks| blocks.look(pages)));
        self.read_and_fill(bio, way.and_then(Way::ticket));
    }

    /// Reads from the disk; with a ticket, what that brings may be put.
    fn read_and_fill(self: &Arc<Self>, bio: Bio, ticket: Option<Ticket>) {
        let pages = bio.pages_from(self.origin);
        self.area
            .counts
            .misses
            .add(pages.map_or(0, |pages| pages.count.into()));
        let wanted = pages
            .zip(ticket)
            .filter(|_| self.is_serving() && bio.is_plain());
        let Some((pages, ticket)) = wanted else {
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

    /// The host has served a read; with a ticket, what it brought may be noted.
    pub(super) fn got(&self, original: &Bio, ticket: Option<Ticket>) {
        let Some(pages) = original.pages_from(self.origin) else {
            // There is none without.
            return;
        };
        self.area.counts.hits.add(pages.count.into());
        if let (Some(victims), Some(ticket)) = (&self.victims, ticket) {
            if original.is_kernels() {
                victims.note(self, original, pages, ticket);
            }
        }
    }

    /// The disk has served a read: notes what it brought, if that is put when it is evicted, or
    /// copies what is worth it. The reader waits for that only.
    pub(super) fn fill(self: &Arc<Self>, original: &Bio, pages: Pages, ticket: Ticket) {
        if self.area.is_shared() {
            // What came may be of another disk, which others do not have.
            self.recognise_disk();
        }
        if !self.is_serving() || !original.is_kernels() {
            self.area.counts.skipped.add(pages.count.into());
            return;
        }
        if let Some(victims) = &self.victims {
            return victims.note(self, original, pages, ticket);
        }
        let (mut done, mut skipped) = (0, 0);
        while done < pages.count {
            let part = Pages {
                index: pages.index + u64::from(done),
                count: (pages.count - done).min(u64::BITS),
            };
            let begun = self
                .area
                .cache(|blocks| blocks.begin_puts(part, ticket, self.is_eager));
            let mut begun = begun.unwrap_or(0);
            skipped += u64::from(part.count);
            while begun != 0 {
                let at = begun.trailing_zeros();
                let is_copied = self.copy(original, part.index + u64::from(at), done + at);
                skipped -= u64::from(is_copied);
                begun &= begun - 1;
            }
            done += part.count;
        }
        self.area.counts.skipped.add(skipped);
        self.area.cache(|blocks| blocks.forget_seen());
    }

    /// Copies a page of a bio, which is its page `at`, to be put. Says whether there was room.
    fn copy(self: &Arc<Self>, original: &Bio, page: u64, at: u32) -> bool {
        // By itself: within the next expression the lock would be held until its end.
        let copies = self.copies.lock().pop();
        let Some(mut copies) = copies else {
            self.area.cache(|blocks| blocks.end_put(page, true));
            return false;
        };
        copies.copy_from(original, at << kernel::page::PAGE_SHIFT);
        self.put_later(copies, page);
        true
    }

    /// A put of a page has ended.
    pub(super) fn put(self: &Arc<Self>, copies: KBox<Copies>, page: u64, status: Status) {
        // What the host said of it was noted. If it said nothing, that is not the case.
        let answered = status.is_ok();
        self.area.cache(|blocks| blocks.end_put(page, answered));
        self.copies.lock().push(copies);
        if !answered {
            self.engine.schedule_flush(&self.area);
        }
    }
}
