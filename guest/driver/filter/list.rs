// SPDX-License-Identifier: GPL-2.0

//! The filters there are: attaching and detaching them.

use super::{
    batch::Batch,
    verity::Verity,
    victims::Victims,
    wanted::Wanted,
    Filter, //
};
use crate::{
    driver::{
        area::{
            Area,
            PageState,
            PRECACHE_POOL,
            PRESWAP_POOL, //
        },
        blocks::Blocks,
        engine::Engine,
        frames::{
            self,
            Frames, //
        },
        manager::Manager,
        tuning, //
    },
    sys::{
        self,
        bio::{
            BioList,
            PAGE_SECTORS, //
        },
        blockdev::BlockDevice,
        clone::CopiesStack,
        eviction,
        hook::{
            Filter as _,
            Gate,
            Hook,
            Writer, //
        },
        irq_lock::new_irq_lock,
        module::InUse,
        work::{
            Queued,
            WorkQueue, //
        },
    },
    uapi::{
        self,
        Kind,
        State,
        Target, //
    },
    wire::ObjectId,
};
use kernel::{
    impl_has_delayed_work, new_delayed_work, new_mutex,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        atomic::Atomic,
        Arc,
        Mutex, //
    },
    time::{
        Delta,
        Instant, //
    },
    workqueue::{
        DelayedWork,
        WorkItem, //
    },
};

struct Entry {
    filter: Arc<Filter>,
    /// It is being detached.
    is_going: bool,
}

struct List {
    entries: KVec<Entry>,
    hooks: KVec<Arc<Hook<Filter>>>,
    writer: Writer<Filter>,
    /// Filters so far: each has an object of its own on the device.
    count: u64,
    /// As long as there are filters that put what is evicted.
    victims: Option<eviction::Registration<Victims>>,
}

/// See the module.
#[pin_data]
pub(crate) struct Filters {
    engine: Arc<Engine>,
    pub(super) manager: Arc<Manager>,
    workqueue: WorkQueue,
    is_eager: bool,
    is_choosy: bool,
    settle: Delta,
    #[pin]
    list: Mutex<List>,
    #[pin]
    watch: DelayedWork<Filters, WATCH>,
}

const WATCH: u64 = 1;

impl_has_delayed_work! {
    impl HasDelayedWork<Self, WATCH> for Filters { self.watch }
}

impl Queued<WATCH> for Filters {
    fn own_workqueue(&self) -> &WorkQueue {
        &self.workqueue
    }
}

impl WorkItem<WATCH> for Filters {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.look_after_disks();
    }
}

impl Filters {
    /// Without filters. With `is_eager` blocks are put that were read once only; with `is_choosy` only
    /// pages of the working set are put when they are evicted. Writes that were under way when a
    /// filter came have ended after `settle` seconds.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or `EBUSY` when there are others already.
    pub(crate) fn new(
        manager: Arc<Manager>,
        is_eager: bool,
        is_choosy: bool,
        settle: u32,
    ) -> Result<Arc<Self>> {
        let list = List {
            entries: KVec::new(),
            hooks: KVec::new(),
            writer: Filter::registry().writer()?,
            count: 0,
            victims: None,
        };
        let workqueue = WorkQueue::new(c"tmem-filters", true)?;
        Arc::pin_init(
            pin_init!(Self {
                engine: manager.engine(),
                manager,
                workqueue,
                is_eager,
                is_choosy,
                settle: Delta::from_secs(settle.into()),
                list <- new_mutex!(list, "tmem::Filters"),
                watch <- new_delayed_work!("tmem::watch"),
            }),
            GFP_KERNEL,
        )
    }

    /// Ends what is scheduled, once there are no filters.
    pub(crate) fn cancel_work(self: &Arc<Self>) {
        self.workqueue.cancel_sync::<_, WATCH>(self);
    }

    /// Attaches a filter.
    ///
    /// # Errors
    ///
    /// Those of [`uapi::ATTACH`].
    pub(crate) fn attach(self: &Arc<Self>, target: &Target) -> Result {
        let kind = Kind::from_number(target.kind).ok_or(EINVAL)?;
        if kind == Kind::Shared {
            return Err(EINVAL);
        }
        self.attach_wanted(&Wanted {
            number: (target.major, target.minor),
            kind,
            shared: None,
        })
    }

    /// Attaches a filter.
    ///
    /// # Errors
    ///
    /// Those of [`uapi::ATTACH_SHARED`] that do not have to do with the host.
    pub(super) fn attach_wanted(self: &Arc<Self>, wanted: &Wanted) -> Result {
        let Wanted { number, kind, .. } = *wanted;
        let mut list = self.list.lock();
        if list
            .entries
            .iter()
            .any(|entry| entry.filter.number == number)
        {
            return Err(EEXIST);
        }
        let device = BlockDevice::open(number.0, number.1)?;
        if let Some(shared) = &wanted.shared {
            shared.check(&device)?;
        }
        let device = Arc::new(device, GFP_KERNEL)?;
        // A bio has one filter.
        let (from, to) = device.sectors();
        if list.entries.iter().any(|entry| {
            let (first, end) = entry.filter.sectors();
            entry.filter.hook.is_on(&device) && from < end && first < to
        }) {
            return Err(EBUSY);
        }
        list.entries.reserve(1, GFP_KERNEL)?;
        list.hooks.reserve(1, GFP_KERNEL)?;
        let hook = match list.hooks.iter().find(|hook| hook.is_on(&device)) {
            Some(hook) => hook.clone(),
            None => {
                if let Some(reason) = device.unsuitable() {
                    pr_err!(
                        "{}:{} can't have a filter: {}\n",
                        number.0,
                        number.1,
                        reason,
                    );
                    return Err(sys::not_supported());
                }
                Hook::new(&device, &list.writer)?
            }
        };
        list.afford(number, kind, pages_of(from, to))?;
        list.count += 1;
        let object = list.count;
        let victims = match kind {
            Kind::Victim => Some(self.victims(&mut list)?),
            Kind::Precache | Kind::Preswap | Kind::Shared => None,
        };
        let attached =
            self.attach_made(&mut list, self.make(wanted, object, device, hook, victims));
        list.forget_victims();
        attached?;
        self.workqueue
            .schedule::<_, WATCH>(self, tuning::disk_watch());
        Ok(())
    }

    /// Who is told of evictions, who is there from here on.
    fn victims(&self, list: &mut List) -> Result<Arc<Victims>> {
        if let Some(registration) = &list.victims {
            return Ok(registration.watcher().clone());
        }
        let victims = Victims::new(sys::memory_pages(), self.is_choosy)?;
        let registration = eviction::Registration::new(victims.clone(), tuning::EVICTED)?;
        list.victims = Some(registration);
        Ok(victims)
    }

    /// Attaches a filter that was made; there is room for it in the list.
    fn attach_made(&self, list: &mut List, filter: Result<Arc<Filter>>) -> Result {
        let filter = filter?;
        self.engine.add_area(filter.area.clone())?;
        // In this order: see `Manager::pools_are_ready`.
        if self.manager.pools_are_ready() && !filter.area.is_shared() {
            filter.area.set_ready(true);
        }
        let noted = filter.victims.as_ref().map_or(Ok(()), |it| it.add(&filter));
        let attached = noted.and_then(|()| filter.hook.attach(&filter, &mut list.writer));
        if let Err(err) = attached {
            if let Some(victims) = &filter.victims {
                victims.remove(&filter);
            }
            self.engine.remove_area(&filter.area);
            return Err(err);
        }
        filter.look_for_writes();
        // If writes are under way that it has not seen, it is opened later: see `chore`.
        filter.try_settle();
        if !list
            .hooks
            .iter()
            .any(|hook| Arc::ptr_eq(hook, &filter.hook))
        {
            // There is room.
            let _ = list.hooks.push_within_capacity(filter.hook.clone());
        }
        let entry = Entry {
            filter,
            is_going: false,
        };
        // There is room.
        let _ = list.entries.push_within_capacity(entry);
        Ok(())
    }

    fn make(
        &self,
        wanted: &Wanted,
        object: u64,
        device: Arc<BlockDevice>,
        hook: Arc<Hook<Filter>>,
        victims: Option<Arc<Victims>>,
    ) -> Result<Arc<Filter>> {
        let Wanted {
            number,
            kind,
            ref shared,
        } = *wanted;
        if object >= frames::MOST_FILTERS {
            return Err(ENOSPC);
        }
        let (from, to) = device.sectors();
        let pages = pages_of(from, to);
        if pages == 0 {
            return Err(EINVAL);
        }
        let (pool, name) = match (kind, shared) {
            // The same in all guests.
            (_, Some(shared)) => (shared.pool, ObjectId::default()),
            (Kind::Preswap, None) => (PRESWAP_POOL, name_of(object)),
            (_, None) => (PRECACHE_POOL, name_of(object)),
        };
        let known = PageState::new(kind, pages)?;
        let area = Area::new(pool, name, known, kind == Kind::Victim)?;
        let share = shared.as_ref().map(|shared| shared.share);
        let verified = shared.as_ref().and_then(|shared| shared.verified.as_ref());
        let verity = match verified {
            Some(target) => Some(Verity::open(target, &device)?),
            None => None,
        };
        // Who reads a block of a share first reads it for the others.
        let is_eager = self.is_eager || kind == Kind::Shared;
        let shadow = hook.shadow_of(&device)?;
        let (identity, was_used) = (device.identity(), device.is_in_use());
        let (gate, outs) = (Gate::new()?, Gate::new()?);
        let in_use = InUse::new()?;
        let batch = Batch::new()?;
        let filter = Arc::pin_init(
            pin_init!(Filter {
                kind,
                id: object as u32,
                number,
                area,
                share,
                verity,
                engine: self.engine.clone(),
                hook,
                origin: from,
                end: to,
                identity <- new_irq_lock!(identity, "tmem::identity"),
                is_settling: Atomic::new(true),
                attached: Instant::now(),
                settle: self.settle,
                was_used: Atomic::new(was_used),
                idle_looks: Atomic::new(0),
                gate,
                outs,
                // Until all bios come to it.
                is_closing: Atomic::new(true),
                homing <- new_irq_lock!((0, 0), "tmem::homing"),
                retries <- new_irq_lock!(BioList::new(), "tmem::retries"),
                retry <- new_delayed_work!("tmem::retry"),
                copies <- new_irq_lock!(CopiesStack::new(), "tmem::copies"),
                batch <- new_irq_lock!(batch, "tmem::batch"),
                send <- new_delayed_work!("tmem::send"),
                victims,
                is_eager,
                shadow,
                device,
                _in_use: in_use,
            }),
            GFP_KERNEL,
        )?;
        if kind != Kind::Preswap {
            filter.stock()?;
        }
        Ok(filter)
    }

    /// Takes a filter to be detached.
    fn take(&self, number: (u32, u32)) -> Result<Arc<Filter>> {
        let mut list = self.list.lock();
        let entry = list
            .entries
            .iter_mut()
            .find(|entry| entry.filter.number == number)
            .ok_or(ENOENT)?;
        if entry.is_going {
            return Err(EBUSY);
        }
        entry.is_going = true;
        Ok(entry.filter.clone())
    }

    /// Detaches the filter of a block device.
    ///
    /// # Errors
    ///
    /// Those of [`uapi::DETACH`].
    pub(crate) fn detach(&self, target: &Target) -> Result {
        let filter = self.take((target.major, target.minor))?;
        self.detach_taken(filter, false)
    }

    /// The filter at a position, for people.
    pub(crate) fn show(&self, position: u32) -> Option<uapi::Filter> {
        let list = self.list.lock();
        list.entries.get(position as usize).map(Entry::show)
    }

    /// Detaches a filter that was taken. With `is_gone`, nothing can be written back.
    fn detach_taken(&self, filter: Arc<Filter>, is_gone: bool) -> Result {
        filter.close();
        let detached = if filter.kind == Kind::Preswap && !is_gone {
            filter.bring_home()
        } else {
            Ok(())
        };
        let mut list = self.list.lock();
        let detached = detached.and_then(|()| {
            let writer = &mut list.writer;
            filter.hook.detach(&filter, &filter.gate, writer)
        });
        let at = list
            .entries
            .iter()
            .position(|entry| Arc::ptr_eq(&entry.filter, &filter));
        if let Err(err) = detached {
            filter.reopen();
            if let Some(entry) = at.and_then(|at| list.entries.get_mut(at)) {
                entry.is_going = false;
            }
            return Err(err);
        }
        if let Some(victims) = &filter.victims {
            victims.remove(&filter);
        }
        list.forget_victims();
        filter.area.set_ready(false);
        self.engine.remove_area(&filter.area);
        let entry = at.and_then(|at| list.entries.remove(at).ok());
        if filter.hook.is_empty() {
            let at = list
                .hooks
                .iter()
                .position(|hook| Arc::ptr_eq(hook, &filter.hook));
            drop(at.and_then(|at| list.hooks.remove(at).ok()));
        }
        drop(list);
        drop(entry);
        filter.cancel_work();
        if filter.area.is_shared() {
            self.manager.close_share(filter.area.pool);
        } else {
            // What is left there is freed with the pool, if this fails.
            self.manager
                .flush_object(filter.area.pool, filter.area.object);
        }
        Ok(())
    }

    /// Looks after the disks of filters: see [`Chore`].
    fn look_after_disks(self: &Arc<Self>) {
        while let Some((filter, chore)) = self.chore() {
            let number = filter.number;
            let done = match chore {
                Chore::Gone => {
                    pr_warn!(
                        "the disk of {}:{} is gone, and so is its filter\n",
                        number.0,
                        number.1
                    );
                    self.take(number)
                        .and_then(|filter| self.detach_taken(filter, true))
                }
                Chore::Left => self
                    .take(number)
                    .and_then(|filter| self.detach_taken(filter, false))
                    .inspect(|()| {
                        pr_info!(
                            "nobody uses {}:{} any more: its filter is detached\n",
                            number.0,
                            number.1
                        )
                    }),
                Chore::Forget => {
                    self.forget(&filter);
                    Ok(())
                }
            };
            if done.is_err() {
                // Without memory, or without the host: the next time.
                break;
            }
        }
        let (is_empty, has_shares) = {
            let list = self.list.lock();
            let is_shared = |entry: &Entry| entry.filter.area.is_shared();
            (list.entries.is_empty(), list.entries.iter().any(is_shared))
        };
        // Its mutex is taken for nothing else here, and may be held for long.
        if has_shares {
            self.manager.ask_again();
        }
        if !is_empty {
            self.workqueue
                .schedule::<_, WATCH>(self, tuning::disk_watch());
        }
    }

    /// What is to be done next, and for which filter.
    fn chore(&self) -> Option<(Arc<Filter>, Chore)> {
        let list = self.list.lock();
        list.entries
            .iter()
            .filter(|entry| !entry.is_going)
            .find_map(|Entry { filter, .. }| {
                filter.try_settle();
                let chore = if !filter.device.is_live() {
                    Chore::Gone
                } else if filter.is_left() {
                    Chore::Left
                } else if filter.area.cache(|blocks| blocks.is_forgetting()) == Some(true) {
                    Chore::Forget
                } else {
                    return None;
                };
                Some((filter.clone(), chore))
            })
    }

    /// Makes all pages absent of a disk that is not known any more.
    fn forget(&self, filter: &Filter) {
        if !filter.area.is_shared() {
            self.manager
                .flush_object(filter.area.pool, filter.area.object);
        }
        filter.area.forget();
    }
}

impl List {
    /// Is not told of evictions any more when no filter wants to be.
    fn forget_victims(&mut self) {
        let is_idle = |it: &eviction::Registration<Victims>| it.watcher().is_empty();
        if self.victims.as_ref().is_some_and(is_idle) {
            self.victims = None;
        }
    }

    /// Whether there is memory to know about one more disk. A guest that is short of memory is not
    /// to be made shorter of it, or its programs killed, for a cache.
    fn afford(&self, number: (u32, u32), kind: Kind, pages: u64) -> Result {
        let frames = Frames::bytes(sys::memory_pages());
        let is_first = kind == Kind::Victim && self.victims.is_none();
        let bytes = PageState::bytes(kind, pages) + if is_first { frames } else { 0 };
        let taken: u64 = self
            .entries
            .iter()
            .map(|Entry { filter, .. }| {
                PageState::bytes(filter.kind, pages_of(filter.origin, filter.end))
            })
            .sum();
        let taken = taken + if self.victims.is_some() { frames } else { 0 };
        let part = |pages: u64, part| (pages << PAGE_SHIFT) / part;
        let most = part(sys::memory_pages(), tuning::STATES_PART);
        if taken.saturating_add(bytes) > most {
            pr_err!(
                "{}:{} is too large for a filter in this machine: to know of its pages takes {} KiB, filters may take {} KiB together, and {} KiB are taken\n",
                number.0,
                number.1,
                bytes >> 10,
                most >> 10,
                taken >> 10,
            );
            return Err(EFBIG);
        }
        let most = part(sys::available_pages(), tuning::STATES_AVAILABLE_PART);
        let small = part(sys::memory_pages(), tuning::STATES_SMALL_PART);
        if bytes > most.max(small) {
            pr_err!(
                "a filter for {}:{} takes {} KiB of memory, and too little is available for that\n",
                number.0,
                number.1,
                bytes >> 10,
            );
            return Err(ENOMEM);
        }
        Ok(())
    }
}

/// Pages on a disk; the last may be a part of one.
fn pages_of(from: u64, to: u64) -> u64 {
    to.saturating_sub(from).div_ceil(PAGE_SECTORS)
}

/// What is to be done for a filter without being asked for.
enum Chore {
    /// Its disk is gone, and so has to go the filter.
    Gone,
    /// Nobody uses its disk: the filter goes, so that the disk can.
    Left,
    /// What is known of its disk is to be forgotten.
    Forget,
}

/// The object of a filter.
fn name_of(count: u64) -> ObjectId {
    let mut object = ObjectId::default();
    for (to, from) in object.iter_mut().zip(count.to_le_bytes()) {
        *to = from;
    }
    object
}

impl Entry {
    /// Bytes of memory that it takes to know about the pages.
    fn known_bytes(&self) -> u64 {
        let filter = &self.filter;
        let pages = pages_of(filter.origin, filter.end);
        let cached = filter.area.cache(|blocks: &mut Blocks| blocks.bytes());
        cached.unwrap_or_else(|| PageState::bytes(filter.kind, pages))
    }

    fn show(&self) -> uapi::Filter {
        let filter = &self.filter;
        let state = if self.is_going {
            State::Detaching
        } else if !filter.device.is_live() {
            State::Gone
        } else if filter.area.is_ready() && filter.engine.is_open() {
            State::Active
        } else {
            State::Waiting
        };
        let counts = &filter.area.counts;
        uapi::Filter {
            position: 0,
            major: filter.number.0,
            minor: filter.number.1,
            kind: filter.kind as u32,
            state: state as u32,
            pages: filter.area.pages(),
            hits: counts.hits.get(),
            misses: counts.misses.get(),
            puts: counts.puts.get(),
            refused: counts.refused.get(),
            skipped: counts.skipped.get(),
            invalidates: counts.invalidates.get(),
            vanished: counts.vanished.get(),
            written_back: counts.written_back.get(),
            errors: counts.errors.get(),
            evicted: counts.evicted.get(),
            changed: counts.changed.get(),
            known_bytes: self.known_bytes(),
            share: filter.share.unwrap_or_default(),
            share_use: filter.share_use().map_or(0, |it| it as u32),
            is_verified: filter.verity.is_some().into(),
            nameless: counts.nameless.get(),
        }
    }
}
