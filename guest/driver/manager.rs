// SPDX-License-Identifier: GPL-2.0

//! The manager: devices that come and go, and the disk that stays.
//!
//! All changes of [`Link`] are made here, under one mutex; see `engine` for the states.

mod settle;
mod shares;

use super::{
    area::{
        DISK_POOL,
        FILTER_POOLS,
        SHARES, //
    },
    engine::Engine,
    events::Events,
    lanes,
    tuning, //
};
use crate::{
    sys::{
        self,
        bio::Bio,
        disk::{
            self,
            Disk, //
        },
        renewal::Renewal,
        virtio::{
            self,
            Device,
            QueueSet, //
        },
        work::{
            Queued,
            WorkQueue, //
        },
    },
    uapi,
    wire::{
        self,
        Capabilities,
        Config, //
    },
};
use kernel::{
    cpu, impl_has_delayed_work, new_delayed_work, new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc,
        ArcBorrow,
        Mutex, //
    },
    time::{
        msecs_to_jiffies,
        Delta,
        Instant,
        Jiffies,
        Monotonic, //
    },
    workqueue::{
        DelayedWork,
        WorkItem, //
    },
};
use shares::Share;

/// How the driver stands to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// No device was there yet.
    Absent,
    /// The device is there.
    Attached,
    /// The device is gone and may come back.
    Away,
    /// The device is gone for too long, or does not answer.
    Failed,
    /// A device is there, or was, that does not have the pages of the open disk.
    Lost,
}

/// The device that is there.
struct Session {
    queues: Arc<QueueSet>,
    renewal: Arc<Renewal>,
    config: Config,
    /// Whether `config` was read from the device as it is now. If not, it is what the device showed
    /// before it was reset.
    is_confirmed: bool,
    /// Pages in a request.
    run: u32,
    /// Whether the device had the pool when it was first asked for it. None until it has answered.
    had_pool: Option<bool>,
    /// The same for the pools of filters.
    had_filter_pools: [Option<bool>; FILTER_POOLS.len()],
    /// Whether it is clear what the device is to the disk.
    is_settled: bool,
}

struct State {
    link: Link,
    session: Option<Session>,
    disk: Option<Disk<Manager>>,
    /// Whose pages the disk has.
    instance: [u8; 16],
    /// Whose pages the filters have.
    filters_instance: [u8; 16],
    /// Shares that filters have, by their pools.
    shares: [Option<Share>; SHARES],
    /// What the device showed when it was last asked.
    config: Option<Config>,
    /// Pages, and parts of memory, in a request when the disk was made.
    run: u32,
    segments: u16,
    /// Pages of the disk.
    swap_pages: u64,
    /// When an answer was last seen to have come, and how many there were.
    progress: (Instant<Monotonic>, u64),
    /// The module is being unloaded: no disk may be made.
    is_ending: bool,
}

/// See the module.
#[pin_data]
pub(crate) struct Manager {
    engine: Arc<Engine>,
    workqueue: Arc<WorkQueue>,
    /// In seconds.
    reattach_timeout: u32,
    /// The device that is there has the pools of filters, and their areas know what is in them.
    are_pools_ready: Atomic<bool>,
    #[pin]
    events: Events,
    #[pin]
    state: Mutex<State>,
    #[pin]
    timeout: DelayedWork<Manager, TIMEOUT>,
    #[pin]
    postponing: DelayedWork<Manager, POSTPONING>,
    #[pin]
    watchdog: DelayedWork<Manager, WATCHDOG>,
    #[pin]
    limits: DelayedWork<Manager, LIMITS>,
    #[pin]
    closed: DelayedWork<Manager, CLOSED>,
    #[pin]
    answered: DelayedWork<Manager, ANSWERED>,
    #[pin]
    bereft: DelayedWork<Manager, BEREFT>,
}

const TIMEOUT: u64 = 1;
const WATCHDOG: u64 = 2;
const LIMITS: u64 = 3;
const CLOSED: u64 = 4;
const POSTPONING: u64 = 5;
const ANSWERED: u64 = 6;
const BEREFT: u64 = 7;

impl<const ID: u64> Queued<ID> for Manager {
    fn own_workqueue(&self) -> &WorkQueue {
        &self.workqueue
    }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, TIMEOUT> for Manager { self.timeout }
    impl HasDelayedWork<Self, WATCHDOG> for Manager { self.watchdog }
    impl HasDelayedWork<Self, LIMITS> for Manager { self.limits }
    impl HasDelayedWork<Self, CLOSED> for Manager { self.closed }
    impl HasDelayedWork<Self, POSTPONING> for Manager { self.postponing }
    impl HasDelayedWork<Self, ANSWERED> for Manager { self.answered }
    impl HasDelayedWork<Self, BEREFT> for Manager { self.bereft }
}

impl WorkItem<TIMEOUT> for Manager {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.give_up();
    }
}

impl WorkItem<POSTPONING> for Manager {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // Not under the manager's mutex: a probe that waits for memory may have it. Should the
        // device be back by now, some pages stay in memory for a little longer.
        if this.engine.is_away() {
            this.engine.postpone_swap_out();
        }
    }
}

impl WorkItem<WATCHDOG> for Manager {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.watch();
    }
}

impl WorkItem<LIMITS> for Manager {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let state = this.state.lock();
        if let Some(session) = state.session.as_ref().filter(|session| session.is_settled) {
            // What went wrong was said.
            let _ = this.engine.limits(&session.queues);
        }
    }
}

impl WorkItem<CLOSED> for Manager {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut state = this.state.lock();
        if state.link == Link::Lost && !state.is_disk_open() {
            this.drop_disk(&mut state);
            if let Some(session) = state.session.as_mut() {
                session.is_settled = false;
            }
            this.settle_late(&mut state);
        }
    }
}

impl WorkItem<ANSWERED> for Manager {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.settle_late(&mut this.state.lock());
    }
}

impl WorkItem<BEREFT> for Manager {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let state = this.state.lock();
        // A device that was set up anew meanwhile is another matter.
        if !this.engine.is_bereft() {
            return;
        }
        if let Some(session) = state.session.as_ref().filter(|session| session.is_settled) {
            pr_err!(
                "the device does not have the pools that it had: its back end is another one; resetting the device\n"
            );
            this.engine.detach(&session.queues);
            session.renewal.demand();
        }
    }
}

impl State {
    fn is_disk_open(&self) -> bool {
        self.disk.as_ref().is_some_and(Disk::is_open)
    }
}

impl virtio::Driver for Manager {
    fn probe(this: &Arc<Self>, device: &Device<'_>) -> Result {
        let mut state = this.state.lock();
        if state.is_ending {
            // It is removed at once.
            return Ok(());
        }
        if state.session.is_some() {
            pr_err!("one virtio-tmem device is in use already, and there can be only one\n");
            return Err(EBUSY);
        }
        // The back end of a device that was reset may be gone, and some front ends end the machine
        // when they are asked for configuration space then: so that is read when the back end has
        // answered. A device that shows an instance of zeros answers without a back end.
        let known = state
            .config
            .filter(|config| device.is_again() && config.has_back_end());
        let config = match known {
            Some(config) => config,
            None => read(device.read_config())?,
        };
        state.config = Some(config);
        let queues = find_queues(device, &config, this.engine.queue_count())?;
        let count = queues.count() - usize::from(wire::FIRST_REQUEST_QUEUE);
        let session = Session {
            queues,
            renewal: device.renewal(),
            config,
            is_confirmed: known.is_none(),
            run: config.max_run.min(tuning::RUN),
            had_pool: None,
            had_filter_pools: [None; FILTER_POOLS.len()],
            is_settled: false,
        };
        this.attach(&mut state, session, count)
            .inspect_err(|_| this.detach(&mut state))
    }

    fn remove(this: &Arc<Self>) {
        this.detach(&mut this.state.lock());
    }

    fn used(this: &Arc<Self>, queue: u32) {
        if queue >= u32::from(wire::FIRST_REQUEST_QUEUE) {
            let index = queue - u32::from(wire::FIRST_REQUEST_QUEUE);
            if this.engine.used(index as usize) {
                this.workqueue.schedule::<_, ANSWERED>(this, 0);
            }
            if this.engine.is_bereft() {
                this.workqueue.queue::<_, BEREFT>(this, 0);
            }
            return;
        }
        let raised = this.events.used();
        if raised.limits {
            this.workqueue.schedule::<_, LIMITS>(this, 0);
        }
        if raised.detach {
            pr_notice!(
                "the host asks for the pages back: swapoff /dev/tmem0, tmemctl detach --all, then unload virtio_tmem\n"
            );
        }
    }
}

impl disk::Backend for Manager {
    fn submit(this: ArcBorrow<'_, Self>, bio: Bio) {
        this.engine.submit(bio);
    }

    fn slot_freed(this: ArcBorrow<'_, Self>, page: u64) {
        this.engine.disk_slot_freed(page);
    }

    fn closed(this: ArcBorrow<'_, Self>) {
        // The disk can't be replaced under its own mutex.
        this.workqueue.schedule::<_, CLOSED>(&this.into(), 0);
    }
}

/// What configuration space says, if the driver can work with such a device.
fn read(bytes: [u8; Config::SIZE]) -> Result<Config> {
    let config = Config::decode(&bytes);
    check(&config)?;
    Ok(config)
}

/// Sets up the event queue and request queues: those of `config`, `most` at most, or what is there of
/// them. Says why if that fails.
fn find_queues(device: &Device<'_>, config: &Config, most: usize) -> Result<Arc<QueueSet>> {
    let first = usize::from(wire::FIRST_REQUEST_QUEUE);
    let wanted = (config.request_queues as usize).min(most);
    let queues = device
        .find_queues(first + 1, first + wanted)
        .inspect_err(|err| {
            pr_err!(
                "the queues of the device can't be set up ({:?}): it needs one for events and at least one for requests; see the queues and their sizes in the front end's settings\n",
                err,
            );
        })?;
    let count = queues.count() - first;
    if count < wanted {
        pr_warn!(
            "the device has {} request queues, though its back end would serve {}: see the number of queues in the front end's settings, which is one more for events; going on with {}\n",
            count,
            config.request_queues,
            count,
        );
    }
    Ok(queues)
}

/// Whether the driver can work with the device. Says why if not.
fn check(config: &Config) -> Result {
    if !config.is_supported() {
        pr_err!(
            "not a virtio-tmem device that this driver knows: magic {:#x}, version {}, page shift {}, run {}, pools {}, request queues {}\n",
            config.magic,
            config.version,
            config.page_shift,
            config.max_run,
            config.max_pools,
            config.request_queues,
        );
        return Err(ENODEV);
    }
    // What one is going to have that comes later is seen after the reset.
    if config.has_back_end() && !config.capabilities.contains(Capabilities::PERSISTENT) {
        pr_err!("the device has no persistent pools, so it can't be swapped to\n");
        return Err(ENODEV);
    }
    if kernel::page::PAGE_SIZE != wire::PAGE_SIZE {
        pr_err!("the device's pages are not of the size of this kernel's\n");
        return Err(ENODEV);
    }
    Ok(())
}

impl Manager {
    /// Without a device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        counters: Arc<super::counters::Counters>,
        reattach_timeout: u32,
        most_look: u32,
        staged: u32,
    ) -> Result<Arc<Self>> {
        // The time that the guest is suspended does not count.
        let workqueue = Arc::new(WorkQueue::new(c"tmem-device", true)?, GFP_KERNEL)?;
        let queues = lanes::wanted(cpu::nr_cpu_ids() as usize).clamp(1, tuning::QUEUES);
        let engine = Engine::new(queues, counters, most_look, staged)?;
        let state = State {
            link: Link::Absent,
            session: None,
            disk: None,
            instance: [0; 16],
            filters_instance: [0; 16],
            shares: [const { None }; SHARES],
            config: None,
            run: 0,
            segments: 0,
            swap_pages: 0,
            progress: (Instant::now(), 0),
            is_ending: false,
        };
        Arc::pin_init(
            pin_init!(Self {
                engine,
                workqueue,
                reattach_timeout,
                are_pools_ready: Atomic::new(false),
                events <- Events::new(),
                state <- new_mutex!(state, "tmem::Manager"),
                timeout <- new_delayed_work!("tmem::timeout"),
                postponing <- new_delayed_work!("tmem::postponing"),
                watchdog <- new_delayed_work!("tmem::watchdog"),
                limits <- new_delayed_work!("tmem::limits"),
                closed <- new_delayed_work!("tmem::closed"),
                answered <- new_delayed_work!("tmem::answered"),
                bereft <- new_delayed_work!("tmem::bereft"),
            }),
            GFP_KERNEL,
        )
    }

    /// Where devices are reset.
    pub(crate) fn workqueue(&self) -> Arc<WorkQueue> {
        self.workqueue.clone()
    }

    /// What bios are given to.
    pub(crate) fn engine(&self) -> Arc<Engine> {
        self.engine.clone()
    }

    /// Whether the areas of filters that are added from here on are ready: the device that is there
    /// has the pools. An area is added first, then this is asked: when the device goes in between,
    /// nothing is sent until it is back, and then the area is brought up to date.
    pub(crate) fn pools_are_ready(&self) -> bool {
        self.are_pools_ready.load(Acquire)
    }

    /// Sets it, also for the areas that are there; those of shares become ready one by one.
    fn set_pools_ready(&self, are_ready: bool) {
        self.are_pools_ready.store(are_ready, Release);
        // The first is the swap disk's.
        let mut at = 1;
        while let Some(area) = self.engine.area(at) {
            area.set_ready(are_ready && !area.is_shared());
            at += 1;
        }
    }

    /// Removes the pages of an object from the device, if it is there.
    pub(crate) fn flush_object(&self, pool: u32, object: wire::ObjectId) {
        let state = self.state.lock();
        if let Some(session) = state.session.as_ref().filter(|session| session.is_settled) {
            // What went wrong was said; the pages go with the pool.
            let _ = self.engine.flush_object(&session.queues, pool, object);
        }
    }

    /// How the device stands.
    pub(crate) fn status(&self) -> uapi::Status {
        let state = self.state.lock();
        if let Some(session) = state.session.as_ref().filter(|session| session.is_settled) {
            // Else what was known before.
            let _ = self.engine.limits(&session.queues);
        }
        let counters = &self.engine.shared.counters;
        uapi::Status {
            version: uapi::VERSION,
            is_attached: u32::from(state.session.as_ref().is_some_and(|s| s.is_settled)),
            quota_bytes: counters.quota_bytes.get(),
            held_bytes: counters.held_bytes.get(),
            swap_pages: state.disk.as_ref().map_or(0, |_| state.swap_pages),
            is_confidential: u32::from(sys::is_confidential()),
        }
    }

    /// How long to wait for the device to come back, or to answer.
    fn patience(&self) -> Jiffies {
        msecs_to_jiffies(self.reattach_timeout.saturating_mul(1000))
    }

    /// How often to look whether the device answers.
    fn watch_interval(&self) -> Jiffies {
        (self.patience() / 4).max(msecs_to_jiffies(100))
    }

    /// The device goes away.
    fn detach(self: &Arc<Self>, state: &mut State) {
        let Some(session) = state.session.take() else {
            return;
        };
        self.set_pools_ready(false);
        state.forget_shares();
        self.engine.detach(&session.queues);
        self.events.detach(&session.queues.reset());
        match state.link {
            Link::Absent => return self.engine.hold(false),
            Link::Failed => return self.engine.shut(),
            // Filters may have pages on it.
            Link::Lost => (),
            // Also when it has come back, but could not be used.
            Link::Attached | Link::Away => state.link = Link::Away,
        }
        self.engine.hold(true);
        if state.link == Link::Away && state.is_disk_open() {
            pr_warn!(
                "the device is gone; /dev/tmem0 waits {} s for it to come back\n",
                self.reattach_timeout,
            );
        }
        self.workqueue.schedule::<_, TIMEOUT>(self, self.patience());
        let soon = msecs_to_jiffies(tuning::SWAP_OUT_MS).min(self.patience());
        self.workqueue.schedule::<_, POSTPONING>(self, soon);
    }

    /// The device has not come back in time.
    fn give_up(&self) {
        // Not under the mutex: a probe that waits for memory, and so for bios to end, may have it.
        if !self.engine.shut_if_away() {
            return;
        }
        let Some(mut state) = self.state.try_lock() else {
            // A probe is under way, and will open the engine again.
            return;
        };
        if state.link != Link::Away {
            return;
        }
        state.link = Link::Failed;
        if state.is_disk_open() {
            pr_err!(
                "the device has not come back within {} s: I/O on /dev/tmem0 fails until it does\n",
                self.reattach_timeout,
            );
        }
    }

    /// Looks whether the device answers.
    fn watch(self: &Arc<Self>) {
        let mut state = self.state.lock();
        // One that has not answered at all is waited for. Settling with it starts this again.
        let settled = state.session.as_ref().filter(|session| session.is_settled);
        let Some((queues, renewal)) = settled.map(|s| (s.queues.clone(), s.renewal.clone())) else {
            return;
        };
        if state.disk.is_some() {
            // There may have been no memory for it.
            self.engine.reserve.fill();
        }
        if self.engine.is_bereft() {
            // Who looked for an answer may have seen it, and nothing comes since.
            self.workqueue.queue::<_, BEREFT>(self, 0);
        }
        let (answers, in_flight) = self.engine.progress();
        if in_flight == 0 || answers != state.progress.1 {
            state.progress = (Instant::now(), answers);
        } else if state.progress.0.elapsed() >= Delta::from_secs(self.reattach_timeout.into()) {
            pr_err!(
                "the device has not answered {} requests for {} s: it is reset, and I/O on /dev/tmem0 fails until it answers again; look at its daemon\n",
                in_flight,
                self.reattach_timeout,
            );
            self.engine.detach(&queues);
            if state.link == Link::Attached {
                state.link = Link::Failed;
                self.engine.shut();
            }
            // The queues are the device's until then.
            renewal.demand();
            return;
        }
        self.workqueue
            .schedule::<_, WATCHDOG>(self, self.watch_interval());
    }

    /// The module is unloaded, so nobody has the disk open: removes the disk, and its pages from
    /// the device.
    pub(crate) fn end(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.is_ending = true;
        drop(state.disk.take());
        self.engine.forget_staged();
        if let (Link::Attached, Some(session)) = (state.link, &state.session) {
            // The host frees the pool by itself later, if this fails.
            let _ = self.engine.destroy_pool(&session.queues, DISK_POOL);
            for (pool, _) in FILTER_POOLS {
                let _ = self.engine.destroy_pool(&session.queues, pool);
            }
        }
        state.link = Link::Absent;
    }

    /// Ends all work, once no device and no disk are there.
    pub(crate) fn cancel_work(self: &Arc<Self>) {
        self.workqueue.cancel_sync::<_, TIMEOUT>(self);
        self.workqueue.cancel_sync::<_, POSTPONING>(self);
        self.workqueue.cancel_sync::<_, WATCHDOG>(self);
        self.workqueue.cancel_sync::<_, LIMITS>(self);
        self.workqueue.cancel_sync::<_, CLOSED>(self);
        self.workqueue.cancel_sync::<_, ANSWERED>(self);
        self.workqueue.cancel_sync::<_, BEREFT>(self);
        // The device is gone, and has left what it had not answered.
        self.engine.forget_staged();
        self.engine.cancel_work();
    }
}
