// SPDX-License-Identifier: GPL-2.0

//! What the engine does with what is staged.

use super::{
    engine::Engine,
    queue::one,
    stage::{
        Owner,
        Sent,
        Stage,
        Written, //
    },
    tuning, //
};
use crate::sys::{
    bio::{
        Bio,
        BioList,
        Op,
        Outcome,
        Pages,
        PAGE_SECTORS, //
    },
    plug,
    wait_briefly, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Release,
        Arc, //
    },
};

impl Owner for Engine {
    fn staged_ended(this: &Arc<Self>, run: usize, took: bool) {
        if let Some(stage) = &this.stage {
            this.ended_of(stage, run, took);
        }
    }
}

impl Engine {
    /// Takes a bio of the swap disk. In process context.
    pub(crate) fn submit(self: &Arc<Self>, bio: Bio) {
        let (Some(stage), Some(pages)) = (&self.stage, bio.pages()) else {
            return self.submit_to_device(bio);
        };
        match bio.op() {
            Op::Write => {
                let may_grow = bio.is_swap_out() && self.may_stage();
                match self.stage_write(stage, bio, pages, may_grow) {
                    Written::Yes => self.send_staged_soon(stage),
                    Written::Later => (),
                    Written::Busy(bio) => self.postpone(bio),
                    Written::No(bio) => self.submit_to_device(bio),
                }
            }
            Op::Read if !stage.is_empty() => self.read_staged(stage, bio, pages),
            Op::Discard if !stage.is_empty() => {
                for page in pages.index..pages.index + u64::from(pages.count) {
                    stage.inner.lock().runs.free(page);
                }
                self.submit_to_device(bio);
            }
            _ => self.submit_to_device(bio),
        }
    }

    /// Whether pages are staged that are not yet: the device will probably take them soon.
    fn may_stage(&self) -> bool {
        self.is_open() && !self.is_congested() && !self.is_disk_lost() && !self.fullness.is_full()
    }

    fn stage_write(
        &self,
        stage: &Stage<Engine>,
        bio: Bio,
        pages: Pages,
        may_grow: bool,
    ) -> Written {
        let may_grow = may_grow && pages.count <= tuning::MOST_STAGED;
        if !may_grow && stage.is_empty() {
            return Written::No(bio);
        }
        // As long as the device is away, nothing that is under way ends.
        let may_wait = !(self.is_away() && bio.is_swap_out());
        let written = stage.write(bio, pages, may_grow, may_wait, self.most_pages());
        if let Written::Yes = written {
            let counters = &self.shared.counters;
            counters.staged_pages.add(u64::from(pages.count));
        }
        written
    }

    fn read_staged(self: &Arc<Self>, stage: &Stage<Engine>, mut bio: Bio, pages: Pages) {
        let (count, is_staged) = stage.read(&mut bio, pages);
        let at = (pages.index + u64::from(count)) * PAGE_SECTORS;
        let Some((front, rest)) = stage.splits.cut(bio, at) else {
            return;
        };
        if is_staged {
            let started = front.start_accounting();
            front.end_accounting(started);
            front.mark_read(0, count);
            front.end(Outcome::Ok);
        } else {
            self.submit_to_device(front);
        }
        drop(rest);
    }

    /// Sends full runs now, and the open one when the task's plug is emptied; or, if it has none, when
    /// nothing is under way.
    fn send_staged_soon(self: &Arc<Self>, stage: &Stage<Engine>) {
        if !stage.inner.lock().runs.has_open() || plug::remind(self) {
            return self.send_staged(stage);
        }
        self.send_staged_if_idle(stage);
    }

    /// Sends all that is staged.
    pub(super) fn send_all_staged(self: &Arc<Self>) {
        if let Some(stage) = &self.stage {
            stage.inner.lock().runs.close();
            self.send_staged(stage);
        }
    }

    /// Sends the open run, unless one is under way: then more may come until that has ended.
    fn send_staged_if_idle(self: &Arc<Self>, stage: &Stage<Engine>) {
        {
            let mut inner = stage.inner.lock();
            if inner.runs.under_way() == 0 {
                inner.runs.close();
            }
        }
        self.send_staged(stage);
    }

    fn send_staged(self: &Arc<Self>, stage: &Stage<Engine>) {
        if self.is_disk_lost() {
            // The device that is there is another one: what it took could not be read any more.
            return;
        }
        while let Some((run, pages)) = stage.next() {
            let owner = self.clone();
            let sent = Sent { owner, run };
            let memory = stage.memory.get(run);
            let bio = memory.and_then(|it| stage.bios.over_staging(it, Op::Write, pages, sent));
            match bio {
                Some(bio) => self.dispatch(one(bio)),
                // Never: there is one for each run.
                None => self.ended_of(stage, run, false),
            }
        }
    }

    /// The device took a run, or did not.
    fn ended_of(self: &Arc<Self>, stage: &Stage<Engine>, run: usize, took: bool) {
        let disk = &self.shared.disk;
        let mut is_flush_due = false;
        let (waiting, has_kept) = {
            let mut inner = stage.inner.lock();
            let had_kept = inner.runs.kept();
            // Under the lock: once it is released, the pages may be written anew, and then must not be
            // flushed.
            for page in inner.runs.ended(run, took) {
                is_flush_due |= disk.mark_freed(page);
            }
            // Only now, for the same reason.
            stage.is_used.store(inner.runs.in_use() > 0, Release);
            let waiting = core::mem::replace(&mut inner.waiting, BioList::new());
            let kept = inner.runs.kept();
            self.shared.counters.kept_runs.add((kept - had_kept) as u64);
            (waiting, kept > 0)
        };
        if is_flush_due {
            self.schedule_flush(disk);
        }
        self.write_again(stage, waiting);
        if has_kept {
            // What comes meanwhile waits as long.
            return self.workqueue.queue(self, tuning::keep_delay());
        }
        self.send_staged_if_idle(stage);
    }

    /// Takes writes that waited for a run. In any context.
    fn write_again(self: &Arc<Self>, stage: &Stage<Engine>, mut bios: BioList) {
        while let Some(bio) = bios.pop() {
            let Some(pages) = bio.pages() else { continue };
            let may_grow = bio.is_swap_out() && self.may_stage();
            match self.stage_write(stage, bio, pages, may_grow) {
                Written::Yes | Written::Later => (),
                Written::Busy(bio) => self.postpone(bio),
                Written::No(bio) if self.is_disk_lost() => self.fail(one(bio)),
                Written::No(bio) => self.dispatch(one(bio)),
            }
        }
    }

    /// Sends again what the device did not take, and what waited with it.
    pub(super) fn retry_staged(self: &Arc<Self>) {
        if let (Some(stage), true) = (&self.stage, self.is_open()) {
            stage.inner.lock().runs.retry();
            self.send_staged_if_idle(stage);
        }
    }

    /// The writes that wait for a run.
    pub(super) fn take_waiting_for_staged(&self) -> BioList {
        match &self.stage {
            Some(stage) => core::mem::replace(&mut stage.inner.lock().waiting, BioList::new()),
            None => BioList::new(),
        }
    }

    /// The swap slot at `page` of the swap disk was freed. In any context.
    pub(crate) fn disk_slot_freed(self: &Arc<Self>, page: u64) {
        if let Some(stage) = self.stage.as_ref().filter(|stage| !stage.is_empty()) {
            let mut inner = stage.inner.lock();
            let may_tell = inner.runs.free(page);
            stage.is_used.store(inner.runs.in_use() > 0, Release);
            if !may_tell {
                return;
            }
        }
        self.slot_freed(&self.shared.disk, page);
    }

    /// Nobody has the swap disk open, and its pages are not needed any more. Waits for those that are
    /// under way, for a bounded time; they must not wait for the device.
    pub(crate) fn forget_staged(self: &Arc<Self>) {
        let Some(stage) = &self.stage else { return };
        stage.inner.lock().runs.forget();
        self.fail_disk();
        let ended = wait_briefly(tuning::CONTROL_MS, || {
            stage.inner.lock().runs.under_way() == 0
        });
        if !ended {
            pr_err!("pages that were swapped out are under way, though nobody has the disk\n");
        }
        stage
            .is_used
            .store(stage.inner.lock().runs.in_use() > 0, Release);
    }
}
