// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest with a file system: it reads and writes whatever it likes at any time.

use super::disk;
use super::guest;
use super::Fault;
use super::World;
use crate::driver::area::PageState;
use crate::sys::bio::Op;
use crate::sys::content::Content;
use crate::sys::eviction::Watcher;

impl World {
    /// A read must have brought what was there at some moment while it was under way.
    pub(super) fn check_read(&self, op: &guest::Op) {
        let (disk, since) = (self.disk.borrow(), op.since);
        for (page, version) in op.pages.each().zip(&*op.memory.borrow()) {
            if !disk.was(page, *version, since) {
                self.is_wrong(format!(
                    "a read that began at {since} brought version {version} of page {page}"
                ));
            }
        }
    }

    /// The disk is another one; it may have some of what was there. The driver sees so by its number,
    /// or, if `is_seen`, has heard before that nobody uses it.
    pub(super) fn exchange(&self, at: u8, is_seen: bool) {
        if is_seen && self.fault != Some(Fault::NeverLooks) {
            // As long as nobody does, nothing else happens.
            self.coins.set(0);
            self.filter.forget_disk();
        }
        let mut disk = self.disk.borrow_mut();
        for (nth, page) in crate::PLACES.iter().enumerate() {
            if nth % 8 != usize::from(at) % 8 {
                disk.write(*page, self.version(), self.tick());
            }
        }
        if !is_seen {
            disk.identity += 1;
        }
    }

    /// Pages that are present are what the disk has, or are not on the host.
    pub(super) fn check_present(&self) {
        if self.scene.is_shared {
            let host = self.host.borrow();
            let is_foreign = |page: &u64| host.get(*page) != Some(disk::first(*page));
            if let Some(page) = host.pages().find(is_foreign) {
                self.is_wrong(format!("the share has not what all disks have of {page}"));
            }
            return;
        }
        if self.filter.is_other_disk() {
            // Whoever reads next looks.
            return;
        }
        let (host, disk) = (self.host.borrow(), self.disk.borrow());
        let is_right = |page| {
            host.get(page)
                .is_none_or(|version| version == disk.read(page))
        };
        if let PageState::Cache(blocks) = &*self.filter.area.known.lock() {
            if let Some(page) = blocks.wrong(host.pages(), is_right) {
                self.is_wrong(format!(
                    "page {page} is present, but is not what the disk has"
                ));
            }
        }
    }

    /// A page is evicted that a read has brought some time ago, whatever has become of the disk since.
    /// Or it was written to in memory, or its frame is used for something else.
    pub(super) fn reclaim(&self, which: u8, at: u8, how: u8) {
        let Some(victims) = self.filter.victims.clone() else {
            return;
        };
        let found = {
            let ops = self.ops.borrow();
            let is_there = |op: &&guest::Op| op.op == Op::Read && op.is_over && !op.has_failed;
            let read = ops.iter().filter(is_there).count();
            // The last ones most often.
            let back = usize::from(which) % read.max(1);
            let number = (0..ops.len())
                .rev()
                .filter(|number| is_there(&&ops[*number]))
                .nth(back);
            number.map(|number| {
                let memory = ops[number].memory.borrow();
                let at = usize::from(at) % memory.len();
                (guest::frame(number, at), memory[at])
            })
        };
        let Some((frame, content)) = found else {
            return;
        };
        let content = if how > 200 { self.version() } else { content };
        victims.evicted(frame, Content::of(content), true);
    }

    /// Everything has ended: reads all pages, from the host if they are there.
    pub(super) fn finish_cache(&self) {
        for (at, _) in (0..).zip(crate::PLACES) {
            self.read(at, 0, 0);
            while self.progress() {}
        }
    }
}
