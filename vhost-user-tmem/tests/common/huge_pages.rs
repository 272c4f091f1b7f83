// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's pool of huge pages of 2 MiB.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, FlockOperation, MemfdFlags, fallocate, flock, memfd_create};

pub(crate) const HUGE_PAGE: u64 = 2 << 20;

const SIZE: &str = "/proc/sys/vm/nr_hugepages";

/// A pool that is this test's, until it is dropped.
pub(crate) struct Pool(File);

impl Pool {
    /// Makes a pool of so many pages; otherwise says why there is none. One test has it
    /// at a time. A pool that the machine has already is left to those who use it.
    pub(crate) fn make(pages: u64) -> Result<Self, String> {
        let size = File::options().write(true).open(SIZE);
        let size = size.map_err(|error| format!("{SIZE}: {error}"))?;
        flock(&size, FlockOperation::LockExclusive).unwrap();
        if number("HugePages_Total") != 0 {
            return Err("this machine has huge pages, which others may use".into());
        }
        let pool = Self(size);
        pool.resize(pages);
        let free = number("HugePages_Free");
        if free < pages {
            return Err(format!("this machine has {free} of {pages} huge pages"));
        }
        Ok(pool)
    }

    fn resize(&self, pages: u64) {
        // A refusal shows in what is free.
        let _ = self.0.write_at(pages.to_string().as_bytes(), 0);
    }

    /// Pages that nobody uses.
    pub(crate) fn free() -> u64 {
        number("HugePages_Free")
    }

    /// Takes all that nobody uses, for as long as the file lives.
    pub(crate) fn exhaust(&self) -> File {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        let file = File::from(memfd_create("other", flags).unwrap());
        let bytes = Self::free() * HUGE_PAGE;
        if bytes > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, bytes).unwrap();
        }
        assert_eq!(Self::free(), 0);
        file
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// One of the numbers in proc_meminfo(5).
fn number(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim_start_matches(':').trim().parse().ok())
        .unwrap_or(0)
}
