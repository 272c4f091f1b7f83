// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the kernel knows of other processes.

use std::time::Duration;

use anyhow::Result;

/// Time that the threads of the process `pid` were on CPUs.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = stat.split_ascii_whitespace().next();
        nanos += first.unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}
