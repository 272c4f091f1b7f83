// SPDX-License-Identifier: GPL-2.0

//! The engine: takes bios, knows the state of each page, and talks to whichever device is there.
//!
//! # States
//!
//! [`Link`] is changed by the manager only, under its mutex. The I/O path sees the mode of its
//! queue.
//!
//! ```text
//!              first probe           device removed or reset
//!   Absent -----------------> Attached ------------------> Away
//!                             ^  |   ^                     |  |
//!                   same      |  |   +---------------------+  | timeout
//!                   instance  |  | no answer: watchdog        v
//!                             |  +-------------------------> Failed
//!                             +--------------------------------+
//!
//!   any state, other instance: with the disk closed, as the first probe; with the disk open, Lost
//!   until it is closed, then as the first probe.
//! ```
//!
//! A device that is there counts from when it has answered.
//!
//! Bios are sent in `Attached`, wait in `Absent` and `Away`, and fail in `Failed` and `Lost`.
//!
//! # Locks
//!
//! In this order; all but the first two disable interrupts and are held for short:
//!
//! 1. the device's own, of the bus and the driver core; see `renewal`,
//! 2. the manager's mutex,
//! 3. `Stage::inner`, which `swap_slot_free_notify` takes under locks of the swap code,
//! 4. `Queue::inner`, one for each queue,
//! 5. `Area::known`, one for each area, which `swap_slot_free_notify` takes, too,
//! 6. `Engine::answer`, `Engine::relinquished`, `Engine::flushers`, `Reserve::pages`.
//!
//! Bios are ended, doorbells are rung and work is scheduled without any of them.

use super::{
    area::{
        Area,
        PageState,
        DISK_POOL, //
    },
    counters::Counters,
    flusher::Flusher,
    fullness::Fullness,
    handles::{
        Admission,
        Handles, //
    },
    lanes::lane,
    queue::{
        divide,
        one,
        Awaited,
        Mode,
        Queue,
        Shared, //
    },
    ratelimit::RateLimit,
    request::{
        Kind,
        Request,
        Room,
        Stack, //
    },
    reserve::Reserve,
    stage::Stage,
    tuning, //
};
use crate::sys::{
    bio::{
        Bio,
        BioList,
        Op as BioOp,
        Outcome, //
    },
    clone::Clones,
    irq_lock::{
        new_irq_lock,
        IrqLock, //
    },
    plug, reclaim,
    spin::Spin,
    virtio::QueueSet,
    virtqueue::Virtqueue,
    work::{
        Queued,
        WorkQueue, //
    },
};
use kernel::{
    cpu::CpuId,
    impl_has_delayed_work,
    new_delayed_work,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue::DelayedWork, //
};

/// See the module.
#[pin_data]
pub(crate) struct Engine {
    queues: Pin<KBox<[Queue]>>,
    /// Queues that the device has.
    active: Atomic<usize>,
    /// Pages that fit into any request.
    most_pages: Atomic<u32>,
    /// The queues send bios.
    is_open: Atomic<bool>,
    /// The device may come back: writers wait for it.
    away: Atomic<bool>,
    /// Answers of any kind, for the watchdog.
    answers: Atomic<u64>,
    /// The device that is there does not have a pool that the driver has made.
    is_bereft: Atomic<bool>,
    /// The pages of the open swap disk are lost: its bios fail.
    is_disk_lost: Atomic<bool>,
    /// How long a task looks for the answer to its read at most, in nanoseconds.
    most_look: u64,
    /// All areas: first that of the swap disk, then those of filters.
    #[pin]
    pub(super) flushers: IrqLock<KVec<Flusher>>,
    /// Extents in a flush; 0 for a device that takes only one at a time.
    pub(super) extents: Atomic<usize>,
    /// The request that was awaited and has come back, and whether it was answered.
    #[pin]
    pub(super) answer: IrqLock<Option<(KBox<Request>, bool)>>,
    /// Ranges of memory in a request; 0 for a device that takes none back.
    pub(super) most_ranges: Atomic<usize>,
    /// The device removes what is got from an ephemeral pool, if asked to.
    removes: Atomic<bool>,
    /// The request that gives memory back, while it is not under way, and whether it was answered.
    #[pin]
    pub(super) relinquished: IrqLock<Option<(KBox<Request>, bool)>>,
    /// Pages that wait for a request before writers are made to wait.
    most_backlog: u64,
    pub(crate) shared: Shared,
    /// For flushes, and for what waits.
    pub(super) workqueue: WorkQueue,
    /// For filters: their work may have to wait for a disk, flushes must not.
    retry_queue: WorkQueue,
    pub(super) fullness: Fullness,
    /// Where swap-outs are copied to, if they are.
    pub(super) stage: Option<Arc<Stage<Self>>>,
    /// The kernel would kill for lack of memory, now that the device is away; this was said.
    pub(super) is_short: Atomic<bool>,
    /// Memory for the device's return.
    #[pin]
    pub(crate) reserve: Reserve,
    #[pin]
    flush_work: DelayedWork<Engine>,
    pub(super) refusals: RateLimit,
    pub(super) errors: RateLimit,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Engine { self.flush_work }
}

impl Queued for Engine {
    fn own_workqueue(&self) -> &WorkQueue {
        &self.workqueue
    }
}

impl kernel::workqueue::WorkItem for Engine {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.retry_staged();
        this.flush_all();
        this.send_all();
    }
}

impl plug::Unplug for Engine {
    fn unplug(this: &Arc<Self>, bios: BioList) {
        this.send_all_staged();
        if !bios.is_empty() {
            this.dispatch_for_task(bios);
        }
    }
}

impl Engine {
    /// Without a device and without pages. A task looks for the answer to its read for at most
    /// `most_look` microseconds. About `staged` pages are copied at a time when they are swapped out;
    /// none, if that is 0.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        queues: usize,
        counters: Arc<Counters>,
        most_look: u32,
        staged: u32,
    ) -> Result<Arc<Self>> {
        let workqueue = WorkQueue::new(c"tmem-flush", false)?;
        let retry_queue = WorkQueue::new(c"tmem-retry", false)?;
        let queues = KBox::pin_slice(|_| Queue::new(), queues, GFP_KERNEL)?;
        let disk = Area::new(DISK_POOL, [0; 24], PageState::Swap(Handles::new(0)?), false)?;
        disk.set_ready(true);
        let shared = Shared {
            counters,
            disk,
            clones: Clones::new(tuning::CARRIERS)?,
        };
        let mut flushers = KVec::new();
        flushers.push(Flusher::new(shared.disk.clone())?, GFP_KERNEL)?;
        let answer = Request::for_control()?;
        let relinquish = Request::for_ranges()?;
        let reserve = Reserve::new()?;
        let stage = match staged {
            0 => None,
            pages => Some(Stage::new(pages)?),
        };
        Arc::pin_init(
            pin_init!(Self {
                queues,
                active: Atomic::new(1),
                most_pages: Atomic::new(1),
                is_open: Atomic::new(false),
                away: Atomic::new(false),
                answers: Atomic::new(0),
                is_bereft: Atomic::new(false),
                is_disk_lost: Atomic::new(false),
                most_look: u64::from(most_look.min(tuning::MOST_LOOK_MICROS)) * 1000,
                most_backlog: tuning::BACKLOG.min(crate::sys::memory_pages() / tuning::BACKLOG_PART),
                flushers <- new_irq_lock!(flushers, "tmem::flushers"),
                extents: Atomic::new(0),
                answer <- new_irq_lock!(Some((answer, false)), "tmem::answer"),
                most_ranges: Atomic::new(0),
                removes: Atomic::new(false),
                relinquished <- new_irq_lock!(Some((relinquish, false)), "tmem::relinquished"),
                shared,
                workqueue,
                retry_queue,
                fullness: Fullness::new(),
                stage,
                is_short: Atomic::new(false),
                reserve <- reserve,
                flush_work <- new_delayed_work!("tmem::flush"),
                refusals: RateLimit::new(),
                errors: RateLimit::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Takes a bio of the disk that is not staged. In process context.
    pub(super) fn submit_to_device(self: &Arc<Self>, bio: Bio) {
        if bio.pages().is_none() {
            return bio.end(Outcome::IoError);
        }
        match bio.op() {
            BioOp::Write => {
                self.throttle();
                if self.away.load(Relaxed) && bio.is_swap_out() {
                    return self.postpone(bio);
                }
            }
            BioOp::Read | BioOp::Discard => (),
            BioOp::Other => return bio.end(Outcome::Unsupported),
        }
        if self.is_disk_lost.load(Relaxed) {
            return self.fail(one(bio));
        }
        self.gather(bio);
    }

    /// Takes a bio, perhaps to wait in the task's plug. In process context.
    pub(crate) fn gather(self: &Arc<Self>, bio: Bio) {
        if let Some(bio) = plug::gather(self, bio, tuning::PLUG) {
            self.dispatch_for_task(one(bio));
        }
    }

    /// Makes a write wait, for a bounded time, while more of them would only pile up.
    fn throttle(&self) {
        if !self.is_congested() || !reclaim::may_wait() {
            return;
        }
        self.shared.counters.throttled.add(1);
        let mut waited = 0;
        while waited < tuning::WRITE_WAIT_MS && self.is_congested() {
            fsleep(Delta::from_millis(tuning::WRITE_POLL_MS));
            waited += tuning::WRITE_POLL_MS;
        }
    }

    /// Lets a page stay in memory, because the device is away: see [`tuning::SWAP_OUT_MS`].
    pub(super) fn postpone(&self, bio: Bio) {
        self.count_postponed(&bio);
        bio.end(Outcome::Again);
    }

    fn count_postponed(&self, bio: &Bio) {
        let count = bio.pages().map_or(0, |pages| pages.count);
        self.shared.counters.postponed.add(u64::from(count));
    }

    /// Whether more bios would only pile up.
    pub(crate) fn is_congested(&self) -> bool {
        self.away.load(Relaxed) || self.shared.counters.backlog.get() > self.most_backlog
    }

    /// Sends bios of the running task, and looks for the answers that it waits for.
    fn dispatch_for_task(self: &Arc<Self>, bios: BioList) {
        let is_awaited = bios
            .iter()
            .any(|bio| bio.op() == BioOp::Read && bio.is_awaited());
        // Whoever sees an interrupt deals with a device that lacks its pools.
        let look = if is_awaited && !self.is_bereft() {
            self.most_look
        } else {
            0
        };
        self.send(bios, look);
    }

    /// Sends bios, or lets them wait.
    pub(crate) fn dispatch(self: &Arc<Self>, bios: BioList) {
        self.send(bios, 0);
    }

    /// Sends bios, or lets them wait. Looks for the answers to reads for at most `look` nanoseconds.
    fn send(self: &Arc<Self>, mut bios: BioList, look: u64) {
        let mut admitted = BioList::new();
        while let Some(bio) = bios.pop() {
            let Some(pages) = bio.pages() else {
                bio.end(Outcome::IoError);
                continue;
            };
            let area = self.shared.area_of(&bio);
            let is_full = bio.op() == BioOp::Write && self.fullness.refuses();
            let admission = match &mut *area.known.lock() {
                PageState::Swap(handles) if is_full && handles.are_new(pages) => {
                    Admission::Refused(bio)
                }
                PageState::Swap(handles) => handles.admit(bio, pages, area.is_disk()),
                PageState::Cache(_) => Admission::Send(bio),
            };
            match admission {
                Admission::Send(bio) => admitted.push(bio),
                Admission::Refused(bio) => {
                    self.shared
                        .counters
                        .failed_stores
                        .add(u64::from(pages.count));
                    self.shared
                        .counters
                        .refused_early
                        .add(u64::from(pages.count));
                    area.counts.refused.add(u64::from(pages.count));
                    bio.end(Outcome::NoSpace);
                }
                Admission::Deferred => self.shared.counters.deferred.add(1),
                Admission::Empty(mut bio) => {
                    bio.zero(0, pages.count);
                    self.shared.counters.misses.add(u64::from(pages.count));
                    bio.end(Outcome::Ok);
                }
            }
        }
        let (reads, others) = divide(admitted, |bio| bio.op() == BioOp::Read);
        // Before interrupts are off for the queue: others wait for the answers, too.
        let spin = (look > 0).then(Spin::begin);
        let awaited = self.enqueue(reads, true, look);
        self.enqueue(others, false, 0);
        if let (Some((queue, awaited)), Some(spin)) = (awaited, spin) {
            self.look(queue, awaited, spin);
        }
    }

    /// Gives bios that are all reads, or none, to a queue. Gives the requests whose answers are to be
    /// looked for.
    fn enqueue(
        self: &Arc<Self>,
        bios: BioList,
        are_reads: bool,
        look: u64,
    ) -> Option<(&Queue, Awaited)> {
        if bios.is_empty() {
            return None;
        }
        let cpu = u32::from(CpuId::current()) as usize;
        let active = self.active.load(Relaxed).max(1);
        let queue = self.queues.get(lane(are_reads, cpu, active))?;
        // Where reads have no queue of their own, there are answers that are not for a task.
        let look = if active > 1 { look } else { 0 };
        let (sent, failed, awaited) = queue.enqueue(bios, &self.shared, look);
        if sent.ring(&self.shared.counters) {
            self.retry();
        }
        self.fail(failed);
        Some((queue, awaited?))
    }

    /// Looks for answers, as long as they are likely to come soon and the CPU has nothing else to do.
    fn look(self: &Arc<Self>, queue: &Queue, awaited: Awaited, spin: Spin) {
        let counters = &self.shared.counters;
        counters.attempted_polls.add(1);
        loop {
            let look = queue.look(&awaited);
            self.finish_used(queue, look.used);
            if look.is_answered {
                counters.successful_polls.add(1);
            }
            if look.is_over || !spin.goes_on() {
                break;
            }
        }
        let used = queue.stop_looking(awaited);
        drop(spin);
        self.finish_used(queue, used);
    }

    /// Sends a request that is not for I/O.
    pub(super) fn send_ready(self: &Arc<Self>, request: KBox<Request>) {
        let Some(queue) = self.queues.first() else {
            return self.return_request(request, false);
        };
        match queue.enqueue_ready(request, &self.shared) {
            Ok(sent) => {
                if sent.ring(&self.shared.counters) {
                    self.retry();
                }
            }
            Err(request) => self.return_request(request, false),
        }
    }

    /// Sends what waits in any queue.
    pub(super) fn send_all(self: &Arc<Self>) {
        for queue in self.queues.iter() {
            if queue.send(&self.shared).ring(&self.shared.counters) {
                self.retry();
            }
        }
    }

    fn retry(self: &Arc<Self>) {
        self.workqueue.schedule(self, tuning::retry_delay());
    }

    /// The device has used requests of the queue at `index`. In interrupt context. Says whether one
    /// was among them that is, or was, awaited.
    pub(crate) fn used(self: &Arc<Self>, index: usize) -> bool {
        let Some(queue) = self.queues.get(index) else {
            return false;
        };
        self.finish_used(queue, queue.take_used())
    }

    /// Does what is to be done with requests that the device has used, and sends what waits for them.
    /// Says whether one was among them that is, or was, awaited.
    fn finish_used(self: &Arc<Self>, queue: &Queue, mut used: Stack) -> bool {
        let mut free = Stack::new();
        let mut answers = 0;
        let mut awaited = false;
        while let Some(mut request) = used.pop() {
            answers += 1;
            let header = request.answer();
            if header.status.is_ok() {
                self.fullness.hear(header.hints);
            }
            if request.lacks_pool() {
                match request.area().filter(|area| area.is_shared()) {
                    // The manager asks for it again.
                    Some(area) => area.set_ready(false),
                    None => self.is_bereft.store(true, Release),
                }
            }
            match request.kind() {
                Kind::Io(op) => {
                    self.finish(&mut request, op);
                    free.push(request);
                }
                kind => {
                    awaited |= matches!(kind, Kind::Control(_));
                    self.return_request(request, true);
                }
            }
        }
        if answers == 0 {
            return false;
        }
        self.answers.fetch_add(answers, Relaxed);
        if queue
            .recycle(free, &self.shared)
            .ring(&self.shared.counters)
        {
            self.retry();
        }
        awaited
    }

    /// Gives back a request that is not for I/O.
    pub(super) fn return_request(self: &Arc<Self>, request: KBox<Request>, answered: bool) {
        match request.kind() {
            Kind::Flush => self.flushed(request, answered),
            Kind::Relinquish => *self.relinquished.lock() = Some((request, answered)),
            _ => *self.answer.lock() = Some((request, answered)),
        }
    }

    /// Fails bios that were not sent. What belongs to a filter goes to its disk, if it can.
    pub(super) fn fail(self: &Arc<Self>, mut bios: BioList) {
        while let Some(bio) = bios.pop() {
            if self.shared.may_wait(&bio) {
                let count = bio.pages().map_or(0, |pages| pages.count);
                self.shared.counters.io_errors.add(u64::from(count));
                self.abandon(bio, Outcome::IoError);
            } else {
                self.abandon(bio, Outcome::Again);
            }
        }
    }

    /// Ends a bio of which the device has not told what became of its pages. It may have what a write
    /// was to replace, or a part of the write itself.
    pub(super) fn abandon(self: &Arc<Self>, bio: Bio, outcome: Outcome) {
        if let (BioOp::Write, Some(pages)) = (bio.op(), bio.pages()) {
            let area = self.shared.area_of(&bio);
            // Before the end: the slot may be written again after it.
            area.swap(|handles| handles.abandon(pages));
            self.schedule_flush(&area);
        }
        bio.end(outcome);
    }

    /// Whether the device that is there has answered that it does not have a pool that the driver has
    /// made: what is behind it is another instance.
    pub(crate) fn is_bereft(&self) -> bool {
        self.is_bereft.load(Acquire)
    }

    /// Whether the queues send bios.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Acquire)
    }

    /// Whether the device is gone and may come back.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Acquire)
    }

    /// Where filters do work that memory may be waiting for.
    pub(crate) fn retry_queue(&self) -> &WorkQueue {
        &self.retry_queue
    }

    /// Queues that the device has.
    pub(crate) fn active_queues(&self) -> usize {
        self.active.load(Relaxed)
    }

    /// Pages that the device should have.
    pub(crate) fn stored_pages(&self) -> u64 {
        self.shared.disk.pages()
    }

    /// The area at `at`: first that of the swap disk, then those of filters.
    pub(crate) fn area(&self, at: usize) -> Option<Arc<Area>> {
        let flushers = self.flushers.lock();
        flushers.get(at).map(|flusher| flusher.area.clone())
    }

    /// Adds the area of a filter.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn add_area(&self, area: Arc<Area>) -> Result {
        let flusher = Flusher::new(area)?;
        // By itself: within the next expression the lock would be held until its end.
        let count = self.flushers.lock().len() + 1;
        let mut room = KVec::with_capacity(count, GFP_KERNEL)?;
        let mut flushers = self.flushers.lock();
        // There is room for all.
        for flusher in flushers.drain_all() {
            let _ = room.push_within_capacity(flusher);
        }
        let _ = room.push_within_capacity(flusher);
        let old = core::mem::replace(&mut *flushers, room);
        drop(flushers);
        drop(old);
        Ok(())
    }

    /// Removes the area of a filter.
    pub(crate) fn remove_area(&self, area: &Arc<Area>) {
        let mut flushers = self.flushers.lock();
        let at = flushers
            .iter()
            .position(|other| Arc::ptr_eq(&other.area, area));
        let removed = at.and_then(|at| flushers.remove(at).ok());
        drop(flushers);
        drop(removed);
    }

    /// Whether bios of the swap disk fail because their pages are lost.
    pub(crate) fn set_disk_lost(self: &Arc<Self>, is_lost: bool) {
        self.is_disk_lost.store(is_lost, Release);
        if is_lost {
            self.fail_disk();
        }
    }

    /// Whether bios of the swap disk fail because their pages are lost.
    pub(super) fn is_disk_lost(&self) -> bool {
        self.is_disk_lost.load(Relaxed)
    }

    /// Fails the bios of the swap disk that wait.
    pub(super) fn fail_disk(self: &Arc<Self>) {
        for queue in self.queues.iter() {
            self.fail(queue.take_of_disk(&self.shared));
        }
        if let Some(deferred) = self.shared.disk.swap(|handles| handles.take_deferred()) {
            self.fail(deferred);
        }
        self.fail(self.take_waiting_for_staged());
    }

    /// Pages that fit into any request, wherever they are in memory.
    pub(crate) fn most_pages(&self) -> u32 {
        self.most_pages.load(Relaxed)
    }

    /// Parts of memory that fit into any request.
    pub(crate) fn segments(&self) -> u16 {
        let least = self.queues.iter().filter_map(Queue::segments).min();
        least.unwrap_or(1).try_into().unwrap_or(u16::MAX)
    }

    /// Sets how many extents the device takes in a flush; 0 when it takes one run at a time.
    pub(crate) fn set_extents(&self, extents: usize) {
        self.extents.store(extents, Relaxed);
    }

    /// Sets how many ranges of memory the device takes back in a request; 0 when it takes none.
    pub(crate) fn set_ranges(&self, ranges: usize) {
        self.most_ranges.store(ranges, Relaxed);
    }

    /// Sets whether the device can remove what is got.
    pub(crate) fn set_removes(&self, removes: bool) {
        self.removes.store(removes, Relaxed);
    }

    /// Queues that there can be.
    pub(crate) fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// A device is there: takes its first request queues. Requests for others than I/O are sent
    /// from here on.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it has fewer queues.
    pub(crate) fn attach(&self, set: &QueueSet, first: u16, count: usize, run: u32) -> Result {
        self.is_bereft.store(false, Release);
        self.fullness.forget();
        for (i, queue) in self.queues.iter().take(count).enumerate() {
            let vq: Virtqueue<Request> = set.take(usize::from(first) + i)?;
            // A chain must not be longer than the queue, even in an indirect table.
            let segments = vq
                .size()
                .saturating_sub(crate::sys::chain::EXTRA_DESCRIPTORS)
                .min(tuning::SEGMENTS);
            let removes = self.removes.load(Relaxed);
            queue.attach(
                vq,
                Room {
                    run,
                    segments,
                    removes,
                },
            );
        }
        let segments = self.segments();
        self.most_pages.store(run.min(segments.into()), Relaxed);
        self.active.store(count, Release);
        Ok(())
    }

    /// Sends bios, those that wait first.
    pub(crate) fn open(self: &Arc<Self>) {
        let active = self.active.load(Acquire);
        self.away.store(false, Release);
        self.is_short.store(false, Relaxed);
        self.is_open.store(true, Release);
        let most = self.most_pages();
        for (i, queue) in self.queues.iter().enumerate() {
            // What waited was made for the device that was there before, which may have taken more
            // at a time.
            let mut oversized = queue.take_oversized(most, &self.shared);
            while let Some(bio) = oversized.pop() {
                self.abandon(bio, Outcome::Again);
            }
            drop(queue.set_mode(Mode::Open, &self.shared));
            // A device that came back with fewer queues serves the bios of all.
            if i >= active {
                let bios = queue.take_backlog(&self.shared);
                if !bios.is_empty() {
                    self.dispatch(bios);
                }
            }
        }
        self.send_all();
        self.workqueue.schedule(self, 0);
    }

    /// Lets bios wait, as long as the device may come back.
    pub(crate) fn hold(self: &Arc<Self>, away: bool) {
        self.away.store(away, Release);
        self.is_open.store(false, Release);
        for queue in self.queues.iter() {
            drop(queue.set_mode(Mode::Hold, &self.shared));
        }
        self.divert();
    }

    /// Ends what should not wait for the device; it goes to a disk instead.
    fn divert(self: &Arc<Self>) {
        for queue in self.queues.iter() {
            let mut bios = queue.take_impatient(&self.shared);
            while let Some(bio) = bios.pop() {
                self.abandon(bio, Outcome::Again);
            }
        }
    }

    /// Fails bios, also those that wait.
    pub(crate) fn shut(self: &Arc<Self>) {
        self.away.store(false, Release);
        self.is_open.store(false, Release);
        for queue in self.queues.iter() {
            self.fail(queue.set_mode(Mode::Fail, &self.shared));
        }
        self.fail(self.take_deferred());
        self.fail(self.take_waiting_for_staged());
    }

    /// Takes the bios of all areas that wait for flushes.
    fn take_deferred(&self) -> BioList {
        let mut all = BioList::new();
        let mut at = 0;
        while let Some(area) = self.area(at) {
            if let Some(deferred) = area.swap(|handles| handles.take_deferred()) {
                all.append(deferred);
            }
            at += 1;
        }
        all
    }

    /// Fails bios, also those that wait, if the device is away. Says whether it is. May run beside
    /// [`Self::open`], which wins.
    pub(crate) fn shut_if_away(self: &Arc<Self>) -> bool {
        if !self.away.xchg(false, Full) {
            return false;
        }
        for queue in self.queues.iter() {
            self.fail(queue.fail_if_held(&self.shared));
        }
        self.fail(self.take_deferred());
        self.fail(self.take_waiting_for_staged());
        true
    }

    /// Ends the swap writes that wait for the device. All other bios wait on.
    pub(crate) fn postpone_swap_out(self: &Arc<Self>) {
        let mut waiting = self.take_waiting_for_staged();
        while let Some(bio) = waiting.pop() {
            self.postpone(bio);
        }
        let disk = &self.shared.disk;
        if let Some(deferred) = disk.swap(|handles| handles.take_deferred()) {
            self.postpone_among(deferred, |rest| {
                disk.swap(|handles| handles.defer(rest));
            });
        }
        for queue in self.queues.iter() {
            let waiting = queue.take_backlog(&self.shared);
            self.postpone_among(waiting, |rest| queue.give_backlog(rest, &self.shared));
        }
    }

    fn postpone_among(self: &Arc<Self>, mut bios: BioList, give_back: impl FnOnce(BioList)) {
        let mut rest = BioList::new();
        while let Some(bio) = bios.pop() {
            if bio.is_swap_out() {
                self.count_postponed(&bio);
                self.abandon(bio, Outcome::Again);
            } else {
                rest.push(bio);
            }
        }
        give_back(rest);
    }

    /// The device goes away: resets it and takes back what it has not answered. Bios wait.
    pub(crate) fn detach(self: &Arc<Self>, set: &QueueSet) {
        self.is_open.store(false, Release);
        for queue in self.queues.iter() {
            queue.stop();
        }
        let quiesced = set.reset();
        for queue in self.queues.iter() {
            let mut orphans = queue.detach(&quiesced, &self.shared);
            while let Some(request) = orphans.pop() {
                self.return_request(request, false);
            }
        }
        self.forget_answer();
        self.divert();
    }

    /// Answers so far, and requests that wait for one.
    pub(crate) fn progress(&self) -> (u64, usize) {
        let in_flight = self.queues.iter().map(Queue::in_flight).sum();
        (self.answers.load(Relaxed), in_flight)
    }

    /// Forgets all pages, for a disk of `pages` pages. No bios may be under way.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn reset_pages(&self, pages: u64) -> Result {
        let handles = Handles::new(pages)?;
        let disk = &self.shared.disk;
        let old = core::mem::replace(&mut *disk.known.lock(), PageState::Swap(handles));
        self.shared.counters.stored_pages.set(0);
        self.shared.counters.pending_flushes.set(0);
        drop(old);
        Ok(())
    }

    /// Ends work that is scheduled.
    pub(crate) fn cancel_work(self: &Arc<Self>) {
        self.workqueue.cancel_sync(self);
    }
}
