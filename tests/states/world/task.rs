// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is under way, and how it gets on.

use super::host::Host;
use super::World;
use crate::driver::engine::Mode;
use crate::driver::filter::ORIGIN;
use crate::sys::bio::Bio;
use crate::sys::bio::BioList;
use crate::sys::bio::Op;
use crate::sys::bio::Outcome;
use crate::sys::bio::Pages;
use crate::wire::Extent;
use crate::wire::Status;
use crate::world;

pub(crate) enum Task {
    /// A bio waits in a task's plug.
    Plug(Bio),
    /// The rest of a bio is to be submitted.
    Submit(Bio),
    Disk(Io),
    Request(Request),
    Flush(Flush),
    /// The filter's work is scheduled.
    Retry,
    /// Its copies are to be sent.
    Batch,
    /// The engine's is.
    FlushWork,
    /// Pages are to become absent.
    Forget,
}

/// I/O of the disk.
pub(crate) struct Io {
    bio: Bio,
    /// Pages to which nothing has happened yet, counted in the bio.
    left: Vec<usize>,
}

impl Io {
    pub(super) fn new(bio: Bio) -> Self {
        let count = bio.pages_touched(ORIGIN).count as usize;
        Self {
            bio,
            left: (0..count).collect(),
        }
    }
}

/// A bio for the host.
pub(crate) struct Request {
    pub(super) bio: Bio,
    /// The device has it, and has executed as many pages.
    pub(super) sent: Option<Vec<Status>>,
}

impl Request {
    pub(crate) fn new(bio: Bio) -> Self {
        Self { bio, sent: None }
    }

    pub(super) fn pages(&self) -> Pages {
        self.bio.pages().unwrap()
    }

    /// Has the host execute the next page. Says whether there was one.
    pub(super) fn execute(&mut self, host: &mut Host, how: u8, is_cache: bool) -> bool {
        let count = self.pages().count as usize;
        let Some(statuses) = self.sent.as_mut().filter(|sent| sent.len() < count) else {
            return false;
        };
        let removes = world::world().filter.area.is_exclusive;
        statuses.push(host.execute(&self.bio, statuses.len(), how, is_cache, removes));
        true
    }
}

/// A flush that the device has.
pub(crate) struct Flush {
    pub(super) extents: Vec<Extent>,
    /// Pages that are yet to be removed, last first.
    pub(super) left: Vec<u64>,
}

impl Flush {
    pub(crate) fn new(extents: Vec<Extent>) -> Self {
        let each = |extent: &Extent| extent.index..extent.index + u64::from(extent.count);
        let mut left: Vec<_> = extents.iter().flat_map(each).collect();
        left.reverse();
        Self { extents, left }
    }
}

/// What has become of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It is over.
    Gone,
    /// There is more of it.
    More,
    /// It waits for the device.
    Waits,
}

impl World {
    /// Work is to be done, of a sort of which there is one at a time.
    pub(crate) fn schedule(&self, work: Task) {
        let sort = std::mem::discriminant(&work);
        let is_there = |task: &Task| std::mem::discriminant(task) == sort;
        if !self.tasks.borrow().iter().any(is_there) {
            self.tasks.borrow_mut().push(work);
        }
    }

    /// The engine's work is to be done.
    pub(crate) fn schedule_flush_work(&self) {
        self.schedule(Task::FlushWork);
    }

    /// The task at `which`, counted around, gets on.
    pub(super) fn go(&self, which: usize, how: u8) -> After {
        let count = self.tasks.borrow().len();
        if count == 0 {
            return After::Gone;
        }
        let which = which % count;
        let task = self.tasks.borrow_mut().remove(which);
        let (task, after) = match task {
            Task::Disk(io) => self.go_disk(io, how),
            Task::Request(request) => self.go_request(request, how),
            Task::Flush(flush) => self.go_flush(flush, how),
            Task::Plug(bio) => {
                let mut bios = BioList::new();
                bios.push(bio);
                self.filter.engine.dispatch(bios);
                return After::Gone;
            }
            Task::Submit(bio) => {
                self.filter.submit(bio);
                return After::Gone;
            }
            Task::Retry => {
                self.filter.run_retries();
                return After::Gone;
            }
            // A work item runs once at a time.
            Task::Batch if self.is_sending.get() => (Some(Task::Batch), After::Waits),
            Task::Batch => {
                self.is_sending.set(true);
                self.filter.run_batch();
                self.is_sending.set(false);
                return After::Gone;
            }
            Task::Forget => {
                let is_over = self.filter.area.cache(|cache| {
                    cache.forget_some();
                    !cache.is_forgetting()
                });
                if is_over == Some(false) {
                    self.tasks.borrow_mut().push(Task::Forget);
                    return After::More;
                }
                return After::Gone;
            }
            Task::FlushWork => {
                self.filter.engine.flush_all(&self.filter.area);
                return After::Gone;
            }
        };
        if let Some(task) = task {
            let mut tasks = self.tasks.borrow_mut();
            let which = which.min(tasks.len());
            tasks.insert(which, task);
        }
        after
    }

    /// The task at `which` gets on until it is over, and all is well.
    pub(super) fn go_on(&self, which: usize) {
        let count = self.tasks.borrow().len();
        if count > 0 {
            while self.go(which % count, 0) == After::More {}
        }
    }

    /// All tasks do.
    pub(super) fn go_on_all(&self) {
        let mut at = 0;
        for _ in 0..512 {
            if at >= self.tasks.borrow().len() {
                return;
            }
            if self.go(at, 0) == After::Waits {
                at += 1;
            }
        }
    }

    fn go_disk(&self, mut io: Io, how: u8) -> (Option<Task>, After) {
        if how == u8::MAX {
            self.disk_failed(&io.bio);
            io.bio.end(Outcome::IoError);
            return (None, After::Gone);
        }
        if io.left.is_empty() {
            io.bio.end(Outcome::Ok);
            return (None, After::Gone);
        }
        let at = io.left.remove(usize::from(how) % io.left.len());
        let page = io.bio.pages_touched(ORIGIN).index + at as u64;
        let body = io.bio.body();
        let mut disk = self.disk.borrow_mut();
        match body.op {
            Op::Read => body.memory.borrow_mut()[body.first + at] = disk.read(page),
            Op::Write => {
                let version = body.memory.borrow()[body.first + at];
                disk.write(page, version, self.tick());
            }
            Op::Discard | Op::Other => disk.write(page, self.version(), self.tick()),
        }
        (Some(Task::Disk(io)), After::More)
    }

    fn go_request(&self, mut request: Request, how: u8) -> (Option<Task>, After) {
        if request.sent.is_none() {
            if self.filter.engine.mode.get() != Mode::Open {
                return (Some(Task::Request(request)), After::Waits);
            }
            self.check_order(&request);
            request.sent = Some(Vec::new());
            return (Some(Task::Request(request)), After::More);
        }
        let is_cache = self.is_cache();
        let is_first = request.sent.as_ref().is_some_and(Vec::is_empty);
        let is_write = request.bio.op() == Op::Write;
        let is_rejected = is_first && how == 250 && (is_cache || is_write);
        if !is_rejected && request.execute(&mut self.host.borrow_mut(), how, is_cache) {
            self.tick();
            return (Some(Task::Request(request)), After::More);
        }
        let statuses = request.sent.take().filter(|_| !is_rejected);
        self.answering.set(self.answering.get() + 1);
        let (engine, area) = (&self.filter.engine, &self.filter.area);
        engine.finish(area, request.bio, statuses.as_deref());
        self.answering.set(self.answering.get() - 1);
        (None, After::Gone)
    }

    fn go_flush(&self, mut flush: Flush, how: u8) -> (Option<Task>, After) {
        if !flush.left.is_empty() {
            for _ in 0..=how % 4 {
                if let Some(page) = flush.left.pop() {
                    self.host.borrow_mut().remove(page);
                }
            }
            return (Some(Task::Flush(flush)), After::More);
        }
        self.answering.set(self.answering.get() + 1);
        let (engine, area) = (&self.filter.engine, &self.filter.area);
        engine.flushed(area, flush.extents, true);
        self.answering.set(self.answering.get() - 1);
        (None, After::Gone)
    }
}
