// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A machine whose pages are saved or restored.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use serde_json::{Value, json};
use tmem_host::registry::{Fill, NoBase, Refusal, Still};
use tmem_store::{Base, CloneError, Identity};

use super::resting::Resting;
use super::{FrontEnd, Vm, renew};
use crate::faults;
use crate::takeover::QUEUES;
use crate::trace::{Rings, Trace};

impl Vm {
    /// How its driver was left, if it stands still.
    ///
    /// # Errors
    /// A sentence, when it does not.
    pub(crate) fn stands_still(&self) -> Result<Still, String> {
        if self.device.is_for_any_driver() {
            return Err("its device is a disk; only pages of tmem are saved".into());
        }
        let number = self.connections.load(Relaxed) + self.resting.begun();
        let trace = match self.is_connected() {
            true => self
                .resting
                .left()
                .ok_or("it runs; have its VMM pause it")?,
            false => self.trace().unwrap_or_default(),
        };
        Ok(Still {
            number,
            driver: json!(trace.rings()),
        })
    }

    /// See [`tmem_host::registry::Machine::to_base`].
    pub(crate) fn to_base(
        &self,
        is_as_it_was: &dyn Fn() -> bool,
        share: &dyn Fn(&Arc<Base>) -> Result<(), CloneError>,
    ) -> Result<(), NoBase> {
        // A front end may come, and wait for this.
        let held = self.resting.hold();
        if held.is_loading || !is_as_it_was() {
            return Err(NoBase::RanOn);
        }
        let note = |client, bases: &[Identity]| {
            faults::hold("clone");
            let note = self.note.as_ref();
            note.is_none_or(|note| note.set_known(client, bases))
        };
        let base = self.device.client().to_base(note);
        let shared = base.and_then(|base| {
            faults::hold("share");
            share(&base)
        });
        shared.map_err(NoBase::OnlyCopied)
    }

    /// See [`tmem_host::registry::Machine::restore`]. Nobody lets a front end in meanwhile.
    pub(crate) fn restore(
        &self,
        instance: [u8; 16],
        driver: &Value,
        goes_on: &dyn Fn() -> bool,
        fill: &mut Fill<'_>,
    ) -> Result<(), Refusal> {
        if self.grace().is_zero() {
            let why = format!(
                "{0}: its grace period is 0 s, and so its pages would go at once: set another with `tmemctl vm set {0} --grace`",
                self.name
            );
            return Err(Refusal::Conflict(why));
        }
        self.load(instance, driver, goes_on, fill, |trace| {
            *self
                .trace
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(trace);
            // The grace period begins.
            *self.lock() = FrontEnd::GoneSince(Instant::now());
            Ok(())
        })
    }

    /// Gives up what it has, and has it what `fill` puts into its pools, while its driver stands still;
    /// `keep` has whoever serves it know how the driver was left.
    ///
    /// # Errors
    /// Why that is not so. It has nothing then, or what it had before.
    pub(crate) fn load(
        &self,
        instance: [u8; 16],
        driver: &Value,
        goes_on: &dyn Fn() -> bool,
        fill: &mut Fill<'_>,
        keep: impl FnOnce(Trace) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if self.device.is_for_any_driver() {
            let why = format!(
                "{}: its device is a disk; only pages of tmem are restored",
                self.name
            );
            return Err(Refusal::Conflict(why));
        }
        let rings: Rings = serde_json::from_value(driver.clone()).map_err(|error| {
            Refusal::Invalid(format!(
                "the image does not say how its driver was left: {error}"
            ))
        })?;
        if rings.len() > QUEUES {
            let why = "the image has more queues than a device can have";
            return Err(Refusal::Invalid(why.into()));
        }
        let _loading = Loading::begin(&self.resting);
        // What it had goes in any case, and by a name that no driver has seen.
        renew(&*self.device, self.note.as_deref())?;
        self.set_trace(None);
        // The next daemon is not to find this name with a part of the pages.
        self.device.renew(instance);
        let filled = fill(goes_on).and_then(|()| {
            let trace = Trace::restored(rings);
            self.note_restored(instance, &trace)?;
            keep(trace)
        });
        if filled.is_err() {
            self.free();
        }
        filled
    }

    fn note_restored(&self, instance: [u8; 16], trace: &Trace) -> Result<(), Refusal> {
        if let Some(note) = &self.note
            && !note.restored(instance, self.device.client(), trace)
        {
            let why = format!("{}: cannot note its pages for the next daemon", self.name);
            return Err(Refusal::Failed(why));
        }
        Ok(())
    }
}

/// What a machine has is being replaced, until this is dropped.
struct Loading<'a>(&'a Resting);

impl<'a> Loading<'a> {
    fn begin(resting: &'a Resting) -> Self {
        resting.hold().is_loading = true;
        Self(resting)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.hold().is_loading = false;
    }
}
