// SPDX-License-Identifier: GPL-2.0

//! The engine: takes bios, knows the state of each page, and talks to whichever device is there.
//!
//! # States
//!
//! [`Link`] is changed by the manager only, under its mutex. The I/O path sees the mode of its
//! queue.
//!
//! ```text
//!              first probe               device removed
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
//! Bios are sent in `Attached`, wait in `Absent` and `Away`, and fail in `Failed` and `Lost`.
//!
//! # Locks
//!
//! In this order; all but the first disable interrupts and are held for short:
//!
//! 1. the manager's mutex,
//! 2. `Queue::inner`, one for each queue,
//! 3. `Engine::handles`, which `swap_slot_free_notify` takes under locks of the swap code,
//! 4. `Engine::flusher`, `Engine::answer`.
//!
//! Bios are ended, doorbells are rung and work is scheduled without any of them.

use super::{
    counters::Counters,
    handles::{
        Admission,
        Handles, //
    },
    queue::{
        one,
        Mode,
        Queue, //
    },
    ratelimit::RateLimit,
    request::{
        Kind,
        Request,
        Room,
        Stack, //
    },
    tuning, //
};
use crate::sys::{
    bio::{
        Bio,
        BioList,
        Op as BioOp,
        Outcome, //
    },
    irq_lock::{
        new_irq_lock,
        IrqLock, //
    },
    plug,
    reclaim,
    virtio::QueueSet,
    virtqueue::Virtqueue,
    work::WorkQueue, //
};
use crate::wire::{
    Op,
    Status, //
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
    /// The queues send bios.
    is_open: Atomic<bool>,
    /// The device may come back: writers wait for it.
    away: Atomic<bool>,
    /// Answers of any kind, for the watchdog.
    answers: Atomic<u64>,
    #[pin]
    pub(super) handles: IrqLock<Handles>,
    /// The request for flushes, unless it is in flight.
    #[pin]
    pub(super) flusher: IrqLock<Option<KBox<Request>>>,
    /// Extents in a flush; 0 for a device that takes only one at a time.
    pub(super) extents: Atomic<usize>,
    /// The request that was awaited and has come back, and whether it was answered.
    #[pin]
    pub(super) answer: IrqLock<Option<(KBox<Request>, bool)>>,
    pub(crate) counters: Arc<Counters>,
    pub(super) workqueue: WorkQueue,
    #[pin]
    flush_work: DelayedWork<Engine>,
    refusals: RateLimit,
    errors: RateLimit,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Engine { self.flush_work }
}

impl kernel::workqueue::WorkItem for Engine {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.flush();
        this.send_all();
    }
}

impl plug::Unplug for Engine {
    fn unplug(this: &Arc<Self>, bios: BioList) {
        this.dispatch(bios);
    }
}

impl Engine {
    /// Without a device and without pages.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        queues: usize,
        counters: Arc<Counters>,
        workqueue: WorkQueue,
    ) -> Result<Arc<Self>> {
        let queues = KBox::pin_slice(|_| Queue::new(), queues, GFP_KERNEL)?;
        let handles = Handles::new(0)?;
        let flusher = Request::for_flush()?;
        let answer = Request::for_control()?;
        Arc::pin_init(
            pin_init!(Self {
                queues,
                active: Atomic::new(1),
                is_open: Atomic::new(false),
                away: Atomic::new(false),
                answers: Atomic::new(0),
                handles <- new_irq_lock!(handles, "tmem::handles"),
                flusher <- new_irq_lock!(Some(flusher), "tmem::flusher"),
                extents: Atomic::new(0),
                answer <- new_irq_lock!(Some((answer, false)), "tmem::answer"),
                counters,
                workqueue,
                flush_work <- new_delayed_work!("tmem::flush"),
                refusals: RateLimit::new(),
                errors: RateLimit::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Takes a bio of the disk. In process context.
    pub(crate) fn submit(self: &Arc<Self>, bio: Bio) {
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
        if let Some(bio) = plug::gather(self, bio, tuning::PLUG) {
            self.dispatch(one(bio));
        }
    }

    /// Makes a write wait, for a bounded time, while more of them would only pile up.
    fn throttle(&self) {
        if !self.is_congested() || !reclaim::may_wait() {
            return;
        }
        self.counters.throttled.add(1);
        let mut waited = 0;
        while waited < tuning::WRITE_WAIT_MS && self.is_congested() {
            fsleep(Delta::from_millis(tuning::WRITE_POLL_MS));
            waited += tuning::WRITE_POLL_MS;
        }
    }

    /// Lets a page stay in memory, because the device is away: see [`tuning::SWAP_OUT_MS`].
    fn postpone(&self, bio: Bio) {
        let count = bio.pages().map_or(0, |pages| pages.count);
        self.counters.postponed.add(u64::from(count));
        bio.end(Outcome::Again);
    }

    fn is_congested(&self) -> bool {
        self.away.load(Relaxed) || self.counters.backlog.get() > tuning::BACKLOG
    }

    /// Sends bios, or lets them wait.
    pub(super) fn dispatch(self: &Arc<Self>, mut bios: BioList) {
        let mut admitted = BioList::new();
        while let Some(bio) = bios.pop() {
            let Some(pages) = bio.pages() else {
                bio.end(Outcome::IoError);
                continue;
            };
            let admission = self.handles.lock().admit(bio, pages);
            match admission {
                Admission::Send(bio) => admitted.push(bio),
                Admission::Deferred => self.counters.deferred.add(1),
                Admission::Empty(mut bio) => {
                    bio.zero(0, pages.count);
                    self.counters.misses.add(u64::from(pages.count));
                    bio.end(Outcome::Ok);
                }
            }
        }
        if admitted.is_empty() {
            return;
        }
        let cpu = u32::from(CpuId::current()) as usize;
        let active = self.active.load(Relaxed).max(1);
        if let Some(queue) = self.queues.get(cpu % active) {
            let (sent, failed) = queue.enqueue(admitted, &self.counters);
            if sent.ring(&self.counters) {
                self.retry();
            }
            self.fail(failed);
        }
    }

    /// Sends a request that is not for I/O.
    pub(super) fn send_ready(self: &Arc<Self>, request: KBox<Request>) {
        let Some(queue) = self.queues.first() else {
            return self.return_request(request, false);
        };
        match queue.enqueue_ready(request, &self.counters) {
            Ok(sent) => {
                if sent.ring(&self.counters) {
                    self.retry();
                }
            }
            Err(request) => self.return_request(request, false),
        }
    }

    /// Sends what waits in any queue.
    pub(super) fn send_all(self: &Arc<Self>) {
        for queue in self.queues.iter() {
            if queue.send(&self.counters).ring(&self.counters) {
                self.retry();
            }
        }
    }

    fn retry(self: &Arc<Self>) {
        self.workqueue.schedule(self, tuning::retry_delay());
    }

    /// The device has used requests of the queue at `index`. In interrupt context.
    pub(crate) fn used(self: &Arc<Self>, index: usize) {
        let Some(queue) = self.queues.get(index) else {
            return;
        };
        let mut used = queue.take_used();
        let mut free = Stack::new();
        let mut answers = 0;
        while let Some(mut request) = used.pop() {
            answers += 1;
            match request.kind() {
                Kind::Io(op) => {
                    self.finish(&mut request, op);
                    free.push(request);
                }
                _ => self.return_request(request, true),
            }
        }
        self.answers.fetch_add(answers, Relaxed);
        if queue.recycle(free, &self.counters).ring(&self.counters) {
            self.retry();
        }
    }

    /// Gives back a request that is not for I/O.
    fn return_request(self: &Arc<Self>, request: KBox<Request>, answered: bool) {
        match request.kind() {
            Kind::Flush => self.flushed(request, answered),
            _ => *self.answer.lock() = Some((request, answered)),
        }
    }

    /// Ends the bios of an answered request.
    fn finish(&self, request: &mut Request, op: Op) {
        let status = request.answer().status;
        let run = request.pages();
        let started = request.started();
        if !status.is_ok() {
            self.counters.rejected.add(1);
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
            let outcome = match op {
                _ if !status.is_ok() => {
                    self.counters.io_errors.add(u64::from(count));
                    Outcome::IoError
                }
                Op::Put => self.finish_put(request, offset, count),
                Op::Get => self.finish_get(request, offset, &mut bio, count),
                _ => self.finish_discard(request, count),
            };
            offset += count;
            bio.end_accounting(started);
            bio.end(outcome);
        }
    }

    fn finish_put(&self, request: &Request, offset: u32, count: u32) -> Outcome {
        let first = request.pages().index + u64::from(offset);
        let mut refused = 0;
        let mut failed = 0;
        {
            let mut handles = self.handles.lock();
            for i in 0..count {
                let page = first + u64::from(i);
                let status = request.page_status(offset + i);
                match status.code() {
                    Status::OK => handles.set_stored(page),
                    // A refused put has removed what was there before.
                    Status::QUOTA | Status::NO_MEMORY | Status::FROZEN => {
                        handles.set_empty(page);
                        refused += 1;
                    }
                    _ => {
                        // Whether the device has it is unknown: it is flushed in any case.
                        handles.set_stored(page);
                        failed += 1;
                    }
                }
            }
            self.counters.stored_pages.set(handles.stored());
        }
        self.counters
            .succ_stores
            .add(u64::from(count - refused - failed));
        self.counters.failed_stores.add(u64::from(refused));
        self.counters.io_errors.add(u64::from(failed));
        if refused > 0 && self.refusals.is_due() {
            pr_warn!(
                "the device refuses pages (status {:#x}), so they stay in memory; refused so far: {}\n",
                request.page_status(offset).code().0,
                self.counters.failed_stores.get(),
            );
        }
        match (failed, refused) {
            (0, 0) => Outcome::Ok,
            (0, _) => Outcome::NoSpace,
            _ => Outcome::IoError,
        }
    }

    fn finish_get(&self, request: &Request, offset: u32, bio: &mut Bio, count: u32) -> Outcome {
        let first = request.pages().index + u64::from(offset);
        let mut failed = 0u32;
        for i in 0..count {
            match request.page_status(offset + i).code() {
                Status::OK => self.counters.loads.add(1),
                Status::MISS => {
                    // The device leaves the page alone; nothing of it may be seen.
                    bio.zero(i, 1);
                    if self.handles.lock().is_stored(first + u64::from(i)) {
                        self.counters.lost.add(1);
                        failed += 1;
                    } else {
                        self.counters.misses.add(1);
                    }
                }
                _ => {
                    bio.zero(i, 1);
                    failed += 1;
                }
            }
        }
        if failed == 0 {
            return Outcome::Ok;
        }
        self.counters.io_errors.add(u64::from(failed));
        if self.errors.is_due() {
            pr_err!(
                "{} stored pages from {} on could not be read back; pages lost so far: {}\n",
                failed,
                first,
                self.counters.lost.get(),
            );
        }
        Outcome::IoError
    }

    fn finish_discard(&self, request: &Request, count: u32) -> Outcome {
        let first = request.pages().index;
        let mut handles = self.handles.lock();
        for page in first..first + u64::from(count) {
            handles.set_empty(page);
        }
        self.counters.stored_pages.set(handles.stored());
        self.counters.invalidates.add(u64::from(count));
        Outcome::Ok
    }

    /// Fails bios that were not sent.
    fn fail(&self, mut bios: BioList) {
        while let Some(bio) = bios.pop() {
            let count = bio.pages().map_or(0, |pages| pages.count);
            self.counters.io_errors.add(u64::from(count));
            bio.end(Outcome::IoError);
        }
    }

    /// Whether the queues send bios.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Acquire)
    }

    /// Whether the device is gone and may come back.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Acquire)
    }

    /// Queues that the device has.
    pub(crate) fn active_queues(&self) -> usize {
        self.active.load(Relaxed)
    }

    /// Pages that the device should have.
    pub(crate) fn stored_pages(&self) -> u64 {
        self.handles.lock().stored()
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
        for (i, queue) in self.queues.iter().take(count).enumerate() {
            let vq: Virtqueue<Request> = set.take(usize::from(first) + i)?;
            // A chain must not be longer than the queue, even in an indirect table.
            let segments = vq
                .size()
                .saturating_sub(crate::sys::chain::EXTRA_DESCRIPTORS)
                .min(tuning::SEGMENTS);
            queue.attach(vq, Room { run, segments });
        }
        self.active.store(count, Release);
        Ok(())
    }

    /// Sends bios, those that wait first.
    pub(crate) fn open(self: &Arc<Self>) {
        let active = self.active.load(Acquire);
        self.away.store(false, Release);
        self.is_open.store(true, Release);
        for (i, queue) in self.queues.iter().enumerate() {
            drop(queue.set_mode(Mode::Open, &self.counters));
            // A device that came back with fewer queues serves the bios of all.
            if i >= active {
                let bios = queue.take_backlog(&self.counters);
                if !bios.is_empty() {
                    self.dispatch(bios);
                }
            }
        }
        self.send_all();
        self.schedule_flush();
    }

    /// Lets bios wait, as long as the device may come back.
    pub(crate) fn hold(&self, away: bool) {
        self.away.store(away, Release);
        self.is_open.store(false, Release);
        for queue in self.queues.iter() {
            drop(queue.set_mode(Mode::Hold, &self.counters));
        }
    }

    /// Fails bios, also those that wait.
    pub(crate) fn shut(&self) {
        self.away.store(false, Release);
        self.is_open.store(false, Release);
        for queue in self.queues.iter() {
            self.fail(queue.set_mode(Mode::Fail, &self.counters));
        }
        let deferred = self.handles.lock().take_deferred();
        self.fail(deferred);
    }

    /// Fails bios, also those that wait, if the device is away. Says whether it is. May run beside
    /// [`Self::open`], which wins.
    pub(crate) fn shut_if_away(&self) -> bool {
        if !self.away.xchg(false, Full) {
            return false;
        }
        for queue in self.queues.iter() {
            self.fail(queue.fail_if_held(&self.counters));
        }
        let deferred = self.handles.lock().take_deferred();
        self.fail(deferred);
        true
    }

    /// Ends the swap writes that wait for the device. All other bios wait on.
    pub(crate) fn postpone_swap_out(&self) {
        let deferred = self.handles.lock().take_deferred();
        self.postpone_among(deferred, |rest| self.handles.lock().defer(rest));
        for queue in self.queues.iter() {
            let waiting = queue.take_backlog(&self.counters);
            self.postpone_among(waiting, |rest| queue.give_backlog(rest, &self.counters));
        }
    }

    fn postpone_among(&self, mut bios: BioList, give_back: impl FnOnce(BioList)) {
        let mut rest = BioList::new();
        while let Some(bio) = bios.pop() {
            if bio.is_swap_out() {
                self.postpone(bio);
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
            let mut orphans = queue.detach(&quiesced, &self.counters);
            while let Some(request) = orphans.pop() {
                self.return_request(request, false);
            }
        }
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
        let old = core::mem::replace(&mut *self.handles.lock(), handles);
        self.counters.stored_pages.set(0);
        self.counters.pending_flushes.set(0);
        drop(old);
        Ok(())
    }

    /// Ends work that is scheduled.
    pub(crate) fn cancel_work(self: &Arc<Self>) {
        self.workqueue.cancel_sync(self);
    }
}
