// SPDX-License-Identifier: GPL-2.0

//! Requests that the driver waits for: pools and limits. Under the manager's mutex only.

use super::{
    engine::Engine,
    tuning, //
};
use crate::wire::{
    Limits,
    Op,
    Status, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    },
};

impl Engine {
    /// Sends a request about the pool as a whole, and waits for the answer.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` when none comes in time, `EBUSY` when an earlier one has not come yet, `ENODEV`
    /// when the device goes away.
    pub(crate) fn control(self: &Arc<Self>, op: Op) -> Result<(Status, Limits)> {
        let (mut request, _) = self.answer.lock().take().ok_or(EBUSY)?;
        request.set_control(op);
        self.send_ready(request);
        let mut waited = 0;
        loop {
            if let Some((request, answered)) = self.answer.lock().as_ref() {
                if !*answered {
                    return Err(ENODEV);
                }
                return Ok((request.answer().status, request.limits()));
            }
            if waited > tuning::CONTROL_MS * 1000 {
                pr_err!(
                    "the device did not answer a request {:?} within {} s: look at its daemon\n",
                    op,
                    tuning::CONTROL_MS / 1000,
                );
                return Err(ETIMEDOUT);
            }
            fsleep(Delta::from_micros(tuning::CONTROL_POLL_MICROS));
            waited += tuning::CONTROL_POLL_MICROS;
        }
    }

    /// Makes the pool. Gives whether it was there already.
    ///
    /// # Errors
    ///
    /// `EIO` when the device refuses, else as [`Self::control`].
    pub(crate) fn create_pool(self: &Arc<Self>) -> Result<bool> {
        match self.control(Op::CreatePool)?.0 {
            Status::OK => Ok(false),
            Status::EXISTS => Ok(true),
            status => {
                pr_err!("the device refused a pool with status {:#x}\n", status.0);
                Err(EIO)
            }
        }
    }

    /// Asks for the limits, and shows them.
    ///
    /// # Errors
    ///
    /// `EIO` when the device refuses, else as [`Self::control`].
    pub(crate) fn limits(self: &Arc<Self>) -> Result<Limits> {
        let (status, limits) = self.control(Op::GetLimits)?;
        if !status.is_ok() {
            pr_err!(
                "the device refused to tell its limits with status {:#x}\n",
                status.0
            );
            return Err(EIO);
        }
        self.counters.quota_bytes.set(limits.quota_bytes);
        self.counters.held_bytes.set(limits.held_bytes);
        Ok(limits)
    }

    /// Removes the pool with all its pages. That the device has none is fine.
    ///
    /// # Errors
    ///
    /// As [`Self::control`].
    pub(crate) fn destroy_pool(self: &Arc<Self>) -> Result {
        self.control(Op::DestroyPool).map(|_| ())
    }
}
