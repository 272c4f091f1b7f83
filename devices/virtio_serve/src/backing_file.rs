// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The file system under guest memory: in which pages it gives and takes, and
//! whether a page that was taken is certain to come back.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::fstatfs;

/// f_type (statfs(2)).
const TMPFS: u64 = 0x0102_1994;
const HUGETLBFS: u64 = 0x9584_58f6;

/// Bytes of an ordinary page.
const PAGE: u64 = 4096;

/// What is known of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Bytes of its pages.
    pub page: u64,
    /// A hole in a file can be filled as long as the host has memory at all:
    /// neither a pool of huge pages nor a limited or full file system is in the
    /// way.
    pub refills: bool,
}

impl FileSystem {
    /// That of `file`.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(file: &impl AsFd) -> io::Result<Self> {
        let told = fstatfs(file)?;
        let kind = u64::try_from(told.f_type).unwrap_or_default();
        let page = match kind {
            HUGETLBFS => u64::try_from(told.f_bsize).unwrap_or(PAGE).max(PAGE),
            _ => PAGE,
        };
        Ok(Self {
            page,
            // A tmpfs without a limit, as that of memfds, says that it has no
            // blocks.
            refills: kind == TMPFS && told.f_blocks == 0,
        })
    }
}
