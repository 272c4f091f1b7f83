// SPDX-License-Identifier: GPL-2.0

//! What a device that has come is to the disk.
//!
//! A probe sets up the queues and asks for the pool. A device whose back end is away answers late,
//! or only after a reset: the probe does not wait for that, but succeeds. A worker goes on when the
//! answer comes.

use super::{
    super::{
        area::{
            DISK_POOL,
            FILTER_POOLS, //
        },
        tuning, //
    },
    Link,
    Manager,
    Session,
    State,
    WATCHDOG, //
};
use crate::{
    sys::{
        bio,
        disk::{
            self,
            Disk, //
        }, //
    },
    wire::{
        self,
        Capabilities,
        Config,
        PoolKind, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::Instant, //
};

impl Manager {
    /// Takes the device of `session`, with its first `count` request queues.
    ///
    /// # Errors
    ///
    /// Any: the caller detaches it.
    pub(super) fn attach(
        self: &Arc<Self>,
        state: &mut State,
        session: Session,
        count: usize,
    ) -> Result {
        let (queues, config, run) = (session.queues.clone(), session.config, session.run);
        // From here on `detach` undoes what is done.
        state.session = Some(session);
        self.limit_requests(&config);
        self.engine
            .attach(&queues, wire::FIRST_REQUEST_QUEUE, count, run)?;
        queues.set_ready();
        // Only now: a front end may take what is available before DRIVER_OK for what its back end has
        // seen.
        self.events
            .attach(queues.take(usize::from(wire::EVENT_QUEUE))?)?;
        if !config.has_back_end() {
            pr_info!("the device has no back end yet; going on when it asks to be reset\n");
            return Ok(());
        }
        match self.settle(state, tuning::FIRST_ANSWER_MS) {
            // Goes on when the answer comes, or after the reset that the device asks for.
            Err(err) if err == ETIMEDOUT => Ok(()),
            result => result,
        }
    }

    /// Sets what requests may carry.
    fn limit_requests(&self, config: &Config) {
        let extents = if config.capabilities.contains(Capabilities::FLUSH_EXTENTS) {
            config.max_extents as usize
        } else {
            0
        };
        self.engine.set_extents(extents);
        let ranges = if config.capabilities.contains(Capabilities::RELINQUISH) {
            config.max_ranges as usize
        } else {
            0
        };
        self.engine.set_ranges(ranges);
        let removes = config.capabilities.contains(Capabilities::GET_REMOVE);
        self.engine.set_removes(removes);
    }

    /// Finds out what the device that is there is to the disk, and acts on it. Waits `patience`
    /// milliseconds for the first answer. When this fails with `ETIMEDOUT`, it may be repeated.
    fn settle(self: &Arc<Self>, state: &mut State, patience: i64) -> Result {
        let session = state.session.as_mut().ok_or(ENODEV)?;
        let had_pool = match session.had_pool {
            Some(had_pool) => had_pool,
            // Asked once only: after that there is a pool.
            None => *session.had_pool.insert(self.engine.create_pool(
                &session.queues,
                DISK_POOL,
                PoolKind::Persistent,
                patience,
            )?),
        };
        let session = self.confirm(state)?;
        let (instance, run) = (session.config.instance, session.run);
        let has_pages = instance == state.instance
            && (had_pool || self.engine.stored_pages() == 0)
            && state.link != Link::Lost;
        // Before any bio is sent.
        self.settle_filters(state)?;
        self.settle_shares(state)?;
        let keeps_disk = state.disk.is_some() && (has_pages || state.is_disk_open());
        if !keeps_disk {
            self.start_fresh(state)?;
        } else if has_pages {
            // Shows them.
            let session = state.session.as_ref().ok_or(ENODEV)?;
            self.engine.limits(&session.queues)?;
            self.resume(state, run)?;
        } else {
            self.lose(state);
        }
        if let Some(session) = state.session.as_mut() {
            session.is_settled = true;
        }
        state.progress = (Instant::now(), self.engine.progress().0);
        self.workqueue
            .schedule::<_, WATCHDOG>(self, self.watch_interval());
        Ok(())
    }

    /// Sees to it that the session's configuration is what the device shows now. An answer has come,
    /// so its back end is there.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` when the device has to be reset, to be set up as it is now; that is under way.
    fn confirm<'a>(&self, state: &'a mut State) -> Result<&'a mut Session> {
        let session = state.session.as_mut().ok_or(ENODEV)?;
        if session.is_confirmed {
            return Ok(session);
        }
        let config = super::read(session.queues.read_config().ok_or(ENODEV)?)?;
        let before = Config {
            instance: config.instance,
            ..session.config
        };
        state.config = Some(config);
        if config != before || !config.has_back_end() {
            session.renewal.demand();
            return Err(ETIMEDOUT);
        }
        session.config = config;
        session.is_confirmed = true;
        Ok(session)
    }

    /// Makes the pools of filters, and brings their areas up to date. May be repeated, too.
    fn settle_filters(self: &Arc<Self>, state: &mut State) -> Result {
        let session = state.session.as_mut().ok_or(ENODEV)?;
        let instance = session.config.instance;
        let is_same = instance == state.filters_instance;
        let caps = session.config.capabilities;
        for ((pool, kind), had) in FILTER_POOLS.into_iter().zip(&mut session.had_filter_pools) {
            if pool >= session.config.max_pools
                || (kind == PoolKind::Ephemeral && !caps.contains(Capabilities::EPHEMERAL))
            {
                pr_warn!(
                    "the device has no pool {} for filters: what is attached goes to the disk\n",
                    pool
                );
                state.filters_instance = [0; 16];
                return Ok(());
            }
            let create = || {
                let queues = &session.queues;
                self.engine
                    .create_pool(queues, pool, kind, tuning::CONTROL_MS)
            };
            if had.is_none() {
                let there = create()?;
                if there && !is_same {
                    // Of a module that was there before.
                    self.engine.destroy_pool(&session.queues, pool)?;
                    create()?;
                }
                *had = Some(there && is_same);
            }
            if *had == Some(false) {
                self.lose_pages_in(pool);
            }
        }
        state.filters_instance = instance;
        self.set_pools_ready(true);
        Ok(())
    }

    /// The device has none of the pages that filters have in `pool`.
    fn lose_pages_in(&self, pool: u32) {
        // The first is the swap disk's.
        let mut at = 1;
        while let Some(area) = self.engine.area(at) {
            if area.pool == pool {
                let lost = area.lose_all();
                if lost > 0 {
                    pr_err!(
                        "the device came back without {} pages of a swap partition: reading them fails until they are written again; swap it off, or restart the guest\n",
                        lost,
                    );
                }
            }
            at += 1;
        }
    }

    /// Goes on with [`Self::settle`] when an answer has come for which the probe did not wait.
    pub(super) fn settle_late(self: &Arc<Self>, state: &mut State) {
        let unsettled = |session: &Session| session.config.has_back_end() && !session.is_settled;
        if state.is_ending || !state.session.as_ref().is_some_and(unsettled) {
            // An answer that nobody waits for any more.
            return self.engine.forget_answer();
        }
        match self.settle(state, tuning::CONTROL_MS) {
            // Goes on when the next answer comes.
            Err(err) if err == ETIMEDOUT || err == EBUSY => (),
            Err(err) => {
                pr_err!(
                    "the device can't be used ({:?}): look at its daemon, then plug the device again, or unload virtio_tmem and load it again\n",
                    err,
                );
                self.detach(state);
            }
            Ok(()) => (),
        }
    }

    /// The device that is there has the disk's pages.
    fn resume(self: &Arc<Self>, state: &mut State, run: u32) -> Result {
        if run < state.run {
            pr_err!(
                "the device takes {} pages in a request, but /dev/tmem0 was made for {}: swap off and plug the device again\n",
                run,
                state.run,
            );
            return Err(EINVAL);
        }
        let segments = self.engine.segments();
        if segments < state.segments {
            pr_err!(
                "the device's queues are too small: {} parts of memory fit into a request, but /dev/tmem0 was made for {}; plug a device with larger queues, or swap off and plug it again\n",
                segments,
                state.segments,
            );
            return Err(EINVAL);
        }
        pr_info!("the device is back with all pages; going on\n");
        self.engine.shared.counters.reattaches.add(1);
        state.link = Link::Attached;
        self.engine.open();
        self.engine.reserve.fill();
        Ok(())
    }

    /// The device that is there does not have the pages of the open disk.
    fn lose(&self, state: &mut State) {
        pr_err!(
            "the device came back without the pages of /dev/tmem0, {} of them are lost: I/O fails until it is closed; swapoff /dev/tmem0, or restart the guest\n",
            self.engine.stored_pages(),
        );
        state.link = Link::Lost;
        self.engine.set_disk_lost(true);
        self.engine.open();
    }

    /// Removes the disk, which nobody has open.
    pub(super) fn drop_disk(&self, state: &mut State) {
        self.engine.hold(false);
        drop(state.disk.take());
        self.engine.forget_staged();
        self.engine.reserve.empty();
        self.engine.set_disk_lost(false);
        state.link = Link::Absent;
    }

    /// Makes an empty disk on the device that is there, instead of the one before.
    fn start_fresh(self: &Arc<Self>, state: &mut State) -> Result {
        self.drop_disk(state);
        let session = state.session.as_ref().ok_or(ENODEV)?;
        let swap_pages = self.engine.limits(&session.queues)?.swap_pages;
        // Whatever is left in the pool belongs to a disk that is no more.
        self.engine.destroy_pool(&session.queues, DISK_POOL)?;
        self.engine.create_pool(
            &session.queues,
            DISK_POOL,
            PoolKind::Persistent,
            tuning::CONTROL_MS,
        )?;
        self.engine.reset_pages(swap_pages)?;
        state.instance = session.config.instance;
        state.run = session.run;
        state.segments = self.engine.segments();
        state.swap_pages = swap_pages;
        if swap_pages == 0 {
            pr_warn!("the device grants no pages for swapping, so there is no /dev/tmem0\n");
            state.link = Link::Attached;
            self.engine.open();
            return Ok(());
        }
        let limits = disk::Limits {
            pages: swap_pages,
            run: session.run.min(tuning::SEGMENTS as u32),
            discard: tuning::DISCARD_PAGES,
            segments: state.segments,
            segment_bytes: bio::SEGMENT_BYTES,
        };
        state.link = Link::Attached;
        self.engine.open();
        state.disk = Some(Disk::new(c"tmem0", &limits, self.clone())?);
        self.engine.reserve.fill();
        pr_info!(
            "/dev/tmem0: {} MiB, {} pages in a request, {} request queues\n",
            swap_pages >> (20 - wire::PAGE_SHIFT),
            state.run,
            self.engine.active_queues(),
        );
        Ok(())
    }
}
