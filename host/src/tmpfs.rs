// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files that are memory, such as memfds: nobody serves them, and they can be given back in parts.

use std::os::fd::AsFd;

/// f_type (statfs(2)).
const MAGIC: u64 = 0x0102_1994;

/// Whether a file is on tmpfs.
///
/// # Errors
/// What the system says.
pub(crate) fn has(file: impl AsFd) -> rustix::io::Result<bool> {
    let system = rustix::fs::fstatfs(file)?;
    Ok(u64::try_from(system.f_type) == Ok(MAGIC))
}
