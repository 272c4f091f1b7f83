// SPDX-License-Identifier: GPL-2.0

//! What answers mean for the pages and the bios of a request.

use super::{
    area::Area,
    engine::Engine,
    request::Request, //
};
use crate::{
    sys::bio::{
        Bio,
        Outcome, //
    },
    wire::{
        Op,
        Status, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

impl Engine {
    /// Ends the bios of an answered request.
    pub(super) fn finish(self: &Arc<Self>, request: &mut Request, op: Op) {
        let status = request.answer().status;
        let run = request.pages();
        let Some(area) = request.area().cloned() else {
            // There is none without.
            return;
        };
        // Without the pool the back end is another one, and the manager resets the device; or a share
        // is gone.
        let lacks_pool = request.lacks_pool();
        if !status.is_ok() && !lacks_pool {
            self.shared.counters.rejected.add(1);
            if self.errors.is_due() {
                pr_err!(
                    "the device refused a request {:?} for {} pages from {} with status {:#x}: this is a bug in the driver or the device\n",
                    op,
                    run.count,
                    run.index,
                    status.0,
                );
            }
        }
        let mut offset = 0;
        let mut bios = request.take_bios();
        while let Some(mut bio) = bios.pop() {
            let count = bio.pages().map_or(0, |pages| pages.count);
            if !status.is_ok() {
                request.end_accounting(&bio);
                if lacks_pool && area.is_shared() {
                    // There is the disk.
                    self.abandon(bio, Outcome::Again);
                } else {
                    self.shared.counters.io_errors.add(u64::from(count));
                    self.abandon(bio, Outcome::IoError);
                }
                continue;
            }
            let outcome = match op {
                _ if area.is_cache() => finish_cache(&area, request, op, offset, count),
                Op::Put => self.finish_put(&area, request, offset, count),
                Op::Get => self.finish_get(&area, request, offset, &mut bio, count),
                _ => self.finish_discard(&area, request, count),
            };
            offset += count;
            request.end_accounting(&bio);
            bio.end(outcome);
        }
        request.clear();
    }

    fn finish_put(&self, area: &Area, request: &Request, offset: u32, count: u32) -> Outcome {
        let first = request.pages().index + u64::from(offset);
        let mut refused = 0;
        let mut reason = Status::OK;
        let mut failed = 0;
        area.swap(|handles| {
            for i in 0..count {
                let page = first + u64::from(i);
                let status = request.page_status(offset + i);
                match status.code() {
                    // What is not remembered is not there, whatever the device has taken.
                    Status::OK if handles.set_stored(page) => (),
                    // A refused put has removed what was there before.
                    Status::QUOTA | Status::NO_MEMORY | Status::FROZEN => {
                        handles.set_empty(page);
                        refused += 1;
                        reason = status.code();
                    }
                    _ => {
                        // Whether the device has it is unknown: it is flushed in any case.
                        handles.set_stored(page);
                        failed += 1;
                    }
                }
            }
        });
        let accepted = u64::from(count - refused - failed);
        area.counts.puts.add(accepted);
        area.counts.refused.add(refused.into());
        let counters = &self.shared.counters;
        counters.succ_stores.add(accepted);
        counters.failed_stores.add(u64::from(refused));
        if area.is_disk() {
            counters.stored_pages.set(area.pages());
            counters.io_errors.add(u64::from(failed));
        }
        if refused > 0 && self.refusals.is_due() {
            let instead = if area.is_disk() {
                "so they stay in memory, and do not go to swap areas that are used after /dev/tmem0 (see `tmemctl status`)"
            } else {
                "so they go to the disk"
            };
            pr_warn!(
                "the device refuses pages (status {:#x}), {}; refused so far: {}\n",
                reason.0,
                instead,
                counters.failed_stores.get(),
            );
        }
        match (failed, refused) {
            (0, 0) => Outcome::Ok,
            (0, _) => Outcome::NoSpace,
            _ => Outcome::IoError,
        }
    }

    fn finish_get(
        &self,
        area: &Area,
        request: &Request,
        offset: u32,
        bio: &mut Bio,
        count: u32,
    ) -> Outcome {
        let first = request.pages().index + u64::from(offset);
        let counters = &self.shared.counters;
        let (mut read, mut absent, mut moved, mut lost, mut failed) =
            (0u32, 0u32, 0u32, 0u32, 0u32);
        for i in 0..count {
            match request.page_status(offset + i).code() {
                Status::OK => read += 1,
                Status::MISS => {
                    // The device leaves the page alone; nothing of it may be seen.
                    bio.zero(i, 1);
                    let page = first + u64::from(i);
                    if area.swap(|handles| handles.is_stored(page)) == Some(true) {
                        lost += 1;
                    } else if area.is_disk() {
                        absent += 1;
                    } else {
                        // It was written back meanwhile.
                        moved += 1;
                    }
                }
                _ => {
                    bio.zero(i, 1);
                    failed += 1;
                }
            }
        }
        if moved > 0 {
            // All are read again, and nothing is marked until then: what was read may be lost by then.
            return Outcome::Again;
        }
        mark_read(bio, count, |i| request.page_status(offset + i).is_ok());
        counters.loads.add(read.into());
        area.counts.hits.add(read.into());
        counters.misses.add(absent.into());
        counters.lost.add(lost.into());
        failed += lost;
        if failed == 0 {
            return Outcome::Ok;
        }
        area.counts.errors.add(failed.into());
        counters.io_errors.add(u64::from(failed));
        if self.errors.is_due() {
            pr_err!(
                "{} stored pages from {} on could not be read back; pages lost so far: {}\n",
                failed,
                first,
                counters.lost.get(),
            );
        }
        Outcome::IoError
    }

    fn finish_discard(&self, area: &Area, request: &Request, count: u32) -> Outcome {
        let first = request.pages().index;
        area.swap(|handles| {
            for page in first..first + u64::from(count) {
                handles.set_empty(page);
            }
        });
        self.shared.counters.stored_pages.set(area.pages());
        self.shared.counters.invalidates.add(u64::from(count));
        Outcome::Ok
    }
}

/// Says which of the pages of a bio were read: other pages, or other parts of what it is a part of,
/// may have failed.
fn mark_read(bio: &Bio, count: u32, is_read: impl Fn(u32) -> bool) {
    let mut first = 0;
    while first < count {
        let end = (first..count).find(|i| !is_read(*i)).unwrap_or(count);
        if first < end {
            bio.mark_read(first, end - first);
        }
        first = end + 1;
    }
}

/// What has become of copies of blocks.
fn finish_cache(area: &Area, request: &Request, op: Op, offset: u32, count: u32) -> Outcome {
    let first = request.pages().index + u64::from(offset);
    let mut failed = 0;
    for i in 0..count {
        let page = first + u64::from(i);
        let is_ok = request.page_status(offset + i).is_ok();
        if op == Op::Put {
            if is_ok {
                area.counts.puts.add(1);
            } else {
                area.counts.refused.add(1);
            }
            area.cache(|blocks| blocks.answer_put(page, is_ok));
        } else if !is_ok {
            area.cache(|blocks| blocks.vanish(page));
            area.counts.vanished.add(1);
            failed += 1;
        } else if request.removes() {
            area.cache(|blocks| blocks.vanish(page));
        } else if area.is_shared() {
            area.cache(|blocks| blocks.arrive(page));
        }
    }
    // Of a put, the answer for each page was noted; a read goes to the disk.
    if failed == 0 {
        Outcome::Ok
    } else {
        Outcome::Again
    }
}
