// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! DAMON's files below /sys/kernel/mm/damon/admin: one thread that looks at the
//! machine's memory, with one scheme that pages out what is cold.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::set;
use crate::terms::PAGE_BYTES;

/// What is cold, and how much of it is moved out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Microseconds without use.
    pub(super) cold_us: u64,
    /// Most bytes in a second.
    pub(super) rate: u64,
    /// Milliseconds of CPU time for it in each second.
    pub(super) cpu_ms: u64,
    /// Microseconds of each second in which tasks may wait for memory.
    pub(super) pressure_us: u64,
}

/// What the scheme has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Bytes that were found cold.
    pub(super) cold_bytes: u64,
    /// Bytes that were moved out.
    pub(super) moved_bytes: u64,
    /// Bytes that may be moved out in a second now.
    pub(super) rate: u64,
}

/// How often pages are looked at, and after how many looks it is judged how often
/// they were used, in microseconds. DAMON's own defaults, ten times as long: what
/// is cold for seconds needs no closer look, and each costs CPU time.
const SAMPLE_US: u64 = 50_000;
const AGGREGATION_US: u64 = 1_000_000;

/// Most regions that are told apart: this bounds the cost.
const REGIONS: (u64, u64) = (10, 1000);

/// What of the rate is used up by memory that was found cold but not moved out: free
/// memory, and what turns out to be in use page by page. One part in so many.
const FAILED: u64 = 1024;

/// The kernel's files.
pub(super) struct Damon {
    root: PathBuf,
    sys: PathBuf,
}

impl Damon {
    pub(super) fn new(sys: &Path) -> Self {
        Self {
            root: sys.join("kernel/mm/damon/admin/kdamonds"),
            sys: sys.into(),
        }
    }

    /// Whether the kernel has it.
    pub(super) fn is_there(&self) -> bool {
        self.root.is_dir()
    }

    /// Threads that were set up, by whomever.
    pub(super) fn threads(&self) -> Result<u64> {
        number(&self.root.join("nr_kdamonds"))
    }

    /// Whether the thread runs.
    pub(super) fn runs(&self) -> bool {
        fs::read_to_string(self.root.join("0/state")).is_ok_and(|state| state.trim() == "on")
    }

    /// Begins to page out what is cold in `memory`.
    pub(super) fn start(&self, memory: &[Range<u64>], plan: Plan) -> Result<()> {
        set(&self.root.join("nr_kdamonds"), 1)?;
        let thread = self.root.join("0");
        set(&thread.join("contexts/nr_contexts"), 1)?;
        let context = thread.join("contexts/0");
        set(&context.join("operations"), "paddr")?;
        set(&context.join("targets/nr_targets"), 1)?;
        let regions = context.join("targets/0/regions");
        set(&regions.join("nr_regions"), memory.len())?;
        for (at, range) in memory.iter().enumerate() {
            let region = regions.join(at.to_string());
            set(&region.join("start"), range.start)?;
            set(&region.join("end"), range.end)?;
        }
        let attributes = context.join("monitoring_attrs");
        set(&attributes.join("intervals/sample_us"), SAMPLE_US)?;
        set(&attributes.join("intervals/aggr_us"), AGGREGATION_US)?;
        set(&attributes.join("nr_regions/min"), REGIONS.0)?;
        set(&attributes.join("nr_regions/max"), REGIONS.1)?;
        set(&context.join("schemes/nr_schemes"), 1)?;
        scheme(&context.join("schemes/0"), plan)?;
        set(&thread.join("state"), "on").context(
            "DAMON does not start; its other users (damon_stat, damon_reclaim, damon_lru_sort) \
             exclude this one, so end them",
        )
    }

    /// Ends it, and removes the thread.
    pub(super) fn stop(&self) -> Result<()> {
        if self.runs() {
            set(&self.root.join("0/state"), "off")?;
        }
        set(&self.root.join("nr_kdamonds"), 0)
    }

    /// What was done so far; none when the thread does not run.
    pub(super) fn done(&self) -> Option<Done> {
        let state = self.root.join("0/state");
        set(&state, "update_schemes_stats").ok()?;
        let scheme = self.root.join("0/contexts/0/schemes/0");
        // Kernels before 6.9 do not tell.
        let rate = set(&state, "update_schemes_effective_quotas")
            .and_then(|()| number(&scheme.join("quotas/effective_bytes")));
        Some(Done {
            cold_bytes: number(&scheme.join("stats/sz_tried")).ok()?,
            moved_bytes: number(&scheme.join("stats/sz_applied")).ok()?,
            rate: rate.unwrap_or_default(),
        })
    }

    /// Whether a module of the kernel's uses DAMON, and so keeps others out.
    pub(super) fn runs_other(&self, module: &str) -> bool {
        fs::read_to_string(self.enabled(module)).is_ok_and(|value| value.trim() == "Y")
    }

    /// Ends it, if it runs; says whether it did.
    pub(super) fn end_other(&self, module: &str) -> Result<bool> {
        let runs = self.runs_other(module);
        if runs {
            set(&self.enabled(module), "N")?;
        }
        Ok(runs)
    }

    /// Begins it again.
    pub(super) fn resume_other(&self, module: &str) -> Result<()> {
        set(&self.enabled(module), "Y")
    }

    fn enabled(&self, module: &str) -> PathBuf {
        self.sys.join(format!("module/{module}/parameters/enabled"))
    }
}

/// Sets up the scheme.
fn scheme(scheme: &Path, plan: Plan) -> Result<()> {
    ensure!(plan.cold_us >= AGGREGATION_US, "nothing is cold that soon");
    set(&scheme.join("action"), "pageout")?;
    let pattern = scheme.join("access_pattern");
    for (file, value) in [
        ("sz/min", PAGE_BYTES),
        ("sz/max", u64::MAX),
        ("nr_accesses/min", 0),
        ("nr_accesses/max", 0),
        // Counted in aggregations.
        ("age/min", plan.cold_us / AGGREGATION_US),
        ("age/max", u32::MAX.into()),
    ] {
        set(&pattern.join(file), value)?;
    }
    let quotas = scheme.join("quotas");
    for (file, value) in [
        ("ms", plan.cpu_ms),
        ("bytes", plan.rate),
        ("reset_interval_ms", 1000),
        // The oldest first.
        ("weights/sz_permil", 0),
        ("weights/nr_accesses_permil", 0),
        ("weights/age_permil", 1),
        ("goals/nr_goals", 1),
    ] {
        set(&quotas.join(file), value)?;
    }
    // The kernel's default tuner begins with one byte a second, doubles that each second
    // at most, and begins anew whenever tasks wait twice as long as they may, as all do who
    // touch memory that was moved out: it is half a minute late each time. This one moves
    // out at the full rate or not at all. Older kernels do not have it.
    let tuner = quotas.join("goal_tuner");
    if tuner.exists() {
        set(&tuner, "temporal")?;
    }
    // Older kernels count all that was found as moved: free memory, the coldest of
    // all, uses up the rate again and again.
    let failed = quotas.join("fail_charge_denom");
    if failed.exists() {
        set(&quotas.join("fail_charge_num"), 1)?;
        set(&failed, FAILED)?;
    }
    set(&quotas.join("goals/0/target_metric"), "some_mem_psi_us")?;
    set(&quotas.join("goals/0/target_value"), plan.pressure_us)?;
    set(&scheme.join("watermarks/metric"), "none")
}

fn number(file: &Path) -> Result<u64> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    text.trim()
        .parse()
        .with_context(|| format!("{} has no number, but {text:?}", file.display()))
}
