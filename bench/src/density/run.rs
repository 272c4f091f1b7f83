// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One variant from the first boot to the last check.

use crate::density::bench::Bench;
use crate::density::bench::VMS;
use crate::density::budget::Budget;
use crate::density::guests::Guests;
use crate::density::outcome::Outcome;
use crate::density::plan::QUOTA;
use crate::density::samples;
use crate::density::samples::Sample;
use crate::density::samples::Sampler;
use crate::density::way::Way;
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;

/// The kernel ends guests first: the daemon has everybody's pages.
const GUEST_SCORE: u32 = 500;

impl Bench<'_> {
    /// Runs a variant.
    ///
    /// # Errors
    /// Anything but a guest's death, and above all a byte that is wrong.
    pub(crate) fn run(&self, way: Way) -> Result<Outcome> {
        let plan = &self.plan;
        let budget = Arc::new(Budget::new(plan.budget_mib << 20)?);
        let mut assets = self.assets.clone();
        let script = self.dir.join("qemu");
        budget.wrap(&assets.qemu, GUEST_SCORE, &script)?;
        assets.qemu = vec![script];
        let script = self.dir.join("vhost-user-tmem");
        budget.wrap(std::slice::from_ref(&assets.daemon), 0, &script)?;
        assets.daemon = script;

        let start = Instant::now();
        let sampler = Sampler::start(&budget, start)?;
        let daemon = match way {
            Way::Tmem => Some(Daemon::start(&assets, &self.daemon_options())?),
            _ => None,
        };
        let mut guests = Guests::new(self, way, start, &budget);
        guests.boot(&assets, daemon.as_ref())?;
        for number in 0..plan.guests {
            guests.fill(number);
        }
        for _ in 0..plan.rounds {
            for number in 0..plan.guests {
                guests.busy(number)?;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let comes_back = guests.comes_back()?;
        let (swapped, swapped_takes) = guests.swapped(daemon.as_ref())?;
        guests.check_all()?;
        let samples = sampler.end()?;
        let finished = guests.count();
        guests.end();
        if let Some(daemon) = daemon {
            daemon.stop()?;
        }
        let host_kills = budget.kills()?;
        let of = |of: &dyn Fn(&Sample) -> u64| samples::mean_and_peak(&samples, seconds, of);
        let (mean, peak) = of(&|sample| sample.held);
        let (mean_uncached, _) = of(&|sample| sample.held.saturating_sub(sample.cached));
        let busy: Duration = guests.busy.iter().sum();
        let outcome = Outcome {
            way,
            finished,
            losses: std::mem::take(&mut guests.losses),
            complaints: std::mem::take(&mut guests.complaints),
            seconds,
            busy_s: busy.as_secs_f64() / guests.busy.len().max(1) as f64,
            phases: guests.busy.len() as u64,
            host_kills,
            guest_kills: guests.guest_kills,
            touches: std::mem::take(&mut guests.touches),
            mean,
            peak,
            mean_uncached,
            comes_back,
            swapped,
            swapped_takes,
            samples,
        };
        drop(guests);
        if let Some(budget) = Arc::into_inner(budget) {
            budget.end()?;
        }
        Ok(outcome)
    }

    fn daemon_options(&self) -> DaemonOptions {
        DaemonOptions {
            vms: VMS.iter().take(self.plan.guests).copied().collect(),
            quota: QUOTA,
            swap_size: "1G",
            memory_limit: self.plan.store,
            ..DaemonOptions::default()
        }
    }
}
