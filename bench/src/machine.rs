// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The machine that measures.

use crate::report::load;
use std::fs;

/// The machine in a few words. To be called before it is busy with the benchmark.
pub(crate) fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| {
        let (_, model) = line.strip_prefix("model name")?.split_once(':')?;
        Some(model.trim())
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = load();
    format!(
        "{}, {} cores, shared with other work: the load was {} before; Linux {}",
        model.unwrap_or("an unknown CPU"),
        std::thread::available_parallelism().map_or(1, usize::from),
        load.split_whitespace().next().unwrap_or("unknown"),
        kernel.trim().split('-').next().unwrap_or_default(),
    )
}
