// SPDX-License-Identifier: GPL-2.0

//! Requests that the driver waits for: pools and limits. Under the manager's mutex only.
//!
//! A device whose back end is away answers late. So the wait is short, and an answer that comes
//! after it is kept: whoever sends the same request again is given that.

use super::{
    engine::Engine,
    request::{
        Control,
        Kind,
        Request, //
    },
    tuning, //
};
use crate::{
    sys::virtio::QueueSet,
    wire::{
        Limits,
        ObjectId,
        PoolKind,
        PoolSpec,
        Status, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    },
};

impl Engine {
    /// Sends a request about a pool as a whole to the device with the queues `set`, and waits
    /// for the answer, `patience` milliseconds at most.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` when none comes in time, or none is to be expected because the device asks to be
    /// reset; `EBUSY` when an earlier one has not come yet; `ENODEV` when the device goes away.
    fn control(
        self: &Arc<Self>,
        set: &QueueSet,
        op: Control,
        patience: i64,
    ) -> Result<(Status, Limits)> {
        if let Some(request) = self.unsent(op)? {
            self.send_ready(request);
        }
        let start = Instant::<Monotonic>::now();
        let mut next_check = 0;
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            let waited = start.elapsed().as_millis();
            if waited >= next_check {
                if set.needs_reset() {
                    return Err(ETIMEDOUT);
                }
                next_check = waited + tuning::CONTROL_CHECK_MS;
            }
            if waited >= patience {
                pr_warn!(
                    "the device has not answered a request {:?} within {} s: if it does not go on soon, look at its daemon\n",
                    op,
                    patience / 1000,
                );
                return Err(ETIMEDOUT);
            }
            fsleep(Delta::from_micros(tuning::CONTROL_POLL_MICROS));
        }
    }

    /// The request, made one for `op`, or none when an answer to that has come late.
    fn unsent(&self, op: Control) -> Result<Option<KBox<Request>>> {
        let mut answer = self.answer.lock();
        let (mut request, answered) = answer.take().ok_or(EBUSY)?;
        if answered && request.kind() == Kind::Control(op) {
            *answer = Some((request, answered));
            return Ok(None);
        }
        request.set_control(op);
        Ok(Some(request))
    }

    /// What has become of the request that was sent, once that is known.
    fn outcome(&self) -> Option<Result<(Status, Limits)>> {
        let mut answer = self.answer.lock();
        let (request, answered) = (*answer).as_mut()?;
        let outcome = if *answered {
            Ok((request.answer().status, request.limits()))
        } else {
            Err(ENODEV)
        };
        request.clear();
        Some(outcome)
    }

    /// Forgets an answer that came too late.
    pub(crate) fn forget_answer(&self) {
        if let Some((request, _)) = (*self.answer.lock()).as_mut() {
            request.clear();
        }
    }

    /// Makes a pool. Gives whether it was there already.
    ///
    /// # Errors
    ///
    /// `EIO` when the device refuses, else as [`Self::control`].
    pub(crate) fn create_pool(
        self: &Arc<Self>,
        set: &QueueSet,
        pool: u32,
        kind: PoolKind,
        patience: i64,
    ) -> Result<bool> {
        match self
            .control(
                set,
                Control::CreatePool(pool, PoolSpec::own(kind)),
                patience,
            )?
            .0
        {
            Status::OK => Ok(false),
            Status::EXISTS => Ok(true),
            status => {
                pr_err!("the device refused a pool with status {:#x}\n", status.0);
                Err(EIO)
            }
        }
    }

    /// Asks for the pool of a share. Gives the device's answer.
    ///
    /// # Errors
    ///
    /// As [`Self::control`].
    pub(crate) fn ask_for_share(
        self: &Arc<Self>,
        set: &QueueSet,
        pool: u32,
        spec: PoolSpec,
    ) -> Result<Status> {
        let create = Control::CreatePool(pool, spec);
        let ask = || self.control(set, create, tuning::CONTROL_MS).map(|it| it.0);
        let status = ask()?;
        if status != Status::POOL_CONFLICT {
            return Ok(status);
        }
        // The id is that of a share that was used before, perhaps by a module before this one.
        self.destroy_pool(set, pool)?;
        ask()
    }

    /// Asks for the limits, and shows them.
    ///
    /// # Errors
    ///
    /// `EIO` when the device refuses, else as [`Self::control`].
    pub(crate) fn limits(self: &Arc<Self>, set: &QueueSet) -> Result<Limits> {
        let (status, limits) = self.control(set, Control::GetLimits, tuning::CONTROL_MS)?;
        if !status.is_ok() {
            pr_err!(
                "the device refused to tell its limits with status {:#x}\n",
                status.0
            );
            return Err(EIO);
        }
        self.shared.counters.quota_bytes.set(limits.quota_bytes);
        self.shared.counters.held_bytes.set(limits.held_bytes);
        self.shared.counters.memory_bytes.set(limits.memory_bytes);
        self.shared.counters.backed_bytes.set(limits.backed_bytes);
        Ok(limits)
    }

    /// Removes a pool with all its pages. That the device has none is fine.
    ///
    /// # Errors
    ///
    /// As [`Self::control`].
    pub(crate) fn destroy_pool(self: &Arc<Self>, set: &QueueSet, pool: u32) -> Result {
        self.control(set, Control::DestroyPool(pool), tuning::CONTROL_MS)
            .map(|_| ())
    }

    /// Removes all pages of an object.
    ///
    /// # Errors
    ///
    /// As [`Self::control`].
    pub(crate) fn flush_object(
        self: &Arc<Self>,
        set: &QueueSet,
        pool: u32,
        object: ObjectId,
    ) -> Result {
        self.control(set, Control::FlushObject(pool, object), tuning::CONTROL_MS)
            .map(|_| ())
    }
}
