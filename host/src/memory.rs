// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's memory.

use rustix::system::sysinfo;

/// Bytes of memory that the host has.
pub fn of_host() -> u64 {
    let info = sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}
