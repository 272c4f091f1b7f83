// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Looking for cold memory. What is looked for by whom is remembered until the next
//! boot, in a file.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::damon::{Damon, Done, Plan};
use super::{Places, memory};
use crate::cli::GiveBackOn;

/// A user of DAMON that the kernel starts at boot, and that excludes all others. It
/// only counts.
const STATISTICS: &str = "damon_stat";

/// Others like it, which are somebody's choice.
const CHOSEN: [&str; 2] = ["damon_reclaim", "damon_lru_sort"];

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Seconds without use.
    pub(super) cold_s: u64,
    /// Millionths of the time that tasks may wait.
    pub(super) pressure: u64,
    /// Bytes in a second.
    pub(super) rate: u64,
    /// Whether the kernel's statistics were ended for it.
    pub(super) statistics_ended: bool,
}

/// See the module.
pub(super) struct Cold<'a> {
    places: &'a Places,
    damon: Damon,
}

impl<'a> Cold<'a> {
    pub(super) fn new(places: &'a Places) -> Self {
        Self {
            places,
            damon: Damon::new(&places.sys),
        }
    }

    /// Looks for cold memory from here on; with other settings, if it did before.
    ///
    /// # Errors
    /// When the kernel can't, or somebody else uses DAMON.
    pub(super) fn begin(&self, options: &GiveBackOn) -> Result<()> {
        if !self.damon.is_there() {
            bail!("this kernel has no DAMON (CONFIG_DAMON_SYSFS): give --free-only");
        }
        let ours = self.settings();
        if ours.is_none() && self.damon.threads()? > 0 {
            bail!(
                "DAMON is used by somebody else (/sys/kernel/mm/damon/admin/kdamonds): end that, or \
                 give --free-only"
            );
        }
        let ended_before = ours.is_some_and(|settings| settings.statistics_ended);
        self.damon.stop()?;
        for module in CHOSEN {
            if self.damon.runs_other(module) {
                bail!("{module} runs, which excludes this: end it, or give --free-only");
            }
        }
        let ended_now = self.damon.end_other(STATISTICS)?;
        self.remember(&Settings {
            cold_s: options.cold,
            pressure: options.pressure.0,
            rate: options.rate,
            statistics_ended: ended_before || ended_now,
        })?;
        let ranges = memory::ranges(&self.places.proc)?;
        let plan = Plan {
            cold_us: options.cold.saturating_mul(1_000_000),
            rate: options.rate,
            cpu_ms: u64::from(options.cpu).saturating_mul(10),
            pressure_us: options.pressure.0,
        };
        self.damon.start(&ranges, plan).inspect_err(|_| {
            // What went wrong is told; that nothing is left behind is not sure.
            let _ = self.end();
        })
    }

    /// Ends it, if it began.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub(super) fn end(&self) -> Result<()> {
        let Some(settings) = self.settings() else {
            return Ok(());
        };
        self.damon.stop()?;
        if settings.statistics_ended {
            self.damon.resume_other(STATISTICS)?;
        }
        fs::remove_file(self.file()).context("cannot forget what was looked for")
    }

    /// What is looked for, and what was done about it; none when nothing is.
    pub(super) fn status(&self) -> Option<(Settings, Option<Done>)> {
        let settings = self.settings()?;
        let done = if self.damon.runs() {
            self.damon.done()
        } else {
            None
        };
        Some((settings, done))
    }

    fn file(&self) -> PathBuf {
        self.places.run.join("tmemctl/cold.json")
    }

    fn settings(&self) -> Option<Settings> {
        serde_json::from_slice(&fs::read(self.file()).ok()?).ok()
    }

    fn remember(&self, settings: &Settings) -> Result<()> {
        let file = self.file();
        let write = || {
            match fs::create_dir(self.places.run.join("tmemctl")) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            fs::write(&file, serde_json::to_vec(settings)?)
        };
        write().with_context(|| format!("cannot write {}", file.display()))
    }
}
