// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest's memory: a file that lives only in memory, so that other
//! processes can be given it.

pub mod gone;

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Error, Result, ensure};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use tmem_cli::size;
use tmem_host::dumps;
use tmem_host::memory::of_host;
use vm_memory::mmap::FromRangesError;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::layout;
use crate::virtio::Memory;

/// Least memory: enough for the tables that a machine starts with.
const LEAST: u64 = 2 << 20;

/// Bytes of a huge page.
const HUGE_PAGE: u64 = 2 << 20;

/// Bytes of a page.
const PAGE: u64 = 4 << 10;

/// Checks whether a guest can have `bytes` of memory, of huge pages if `huge`,
/// on any host.
///
/// # Errors
/// A sentence about a size that cannot be.
pub fn check(bytes: u64, huge: bool) -> Result<(), String> {
    let shown = size::show(bytes);
    if bytes < LEAST {
        return Err(format!(
            "{shown} of memory is too little for a guest; give at least --memory {}",
            size::show(LEAST)
        ));
    }
    let unit = if huge { HUGE_PAGE } else { PAGE };
    if !bytes.is_multiple_of(unit) {
        return Err(format!(
            "{shown} of memory is not a whole number of pages of {}; give another --memory",
            size::show(unit)
        ));
    }
    Ok(())
}

/// Makes `bytes` of memory, of huge pages if `huge`.
///
/// # Errors
/// A sentence about a size that cannot be, or about what the host lacks.
pub fn make(bytes: u64, huge: bool) -> Result<Memory> {
    check(bytes, huge).map_err(Error::msg)?;
    let host = of_host();
    ensure!(
        bytes <= host,
        "{} of memory is more than the host's {}; give less with --memory",
        size::show(bytes),
        size::show(host)
    );
    let file = memfd(bytes, huge)?;
    let memory = map(bytes, &Arc::new(file)).context("cannot map the guest's memory")?;
    if !dumps::leave_out(&memory) {
        log::warn!("the guest's memory is in core dumps of this process");
    }
    Ok(memory)
}

/// Whether `memory` is in huge pages: once given back, they may be missing.
pub fn is_huge(memory: &GuestMemoryMmap) -> bool {
    /// f_type (statfs(2)).
    const HUGETLBFS: i64 = 0x9584_58f6;
    memory.iter().any(|region| {
        let file = region.file_offset().map(FileOffset::file);
        let system = file.and_then(|file| rustix::fs::fstatfs(file).ok());
        system.is_some_and(|system| system.f_type == HUGETLBFS)
    })
}

fn memfd(bytes: u64, huge: bool) -> Result<File> {
    let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if huge {
        flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    }
    let file = rustix::fs::memfd_create("guest-memory", flags)
        .context("cannot make a file for the guest's memory")?;
    let file = File::from(file);
    file.set_len(bytes)
        .with_context(|| format!("cannot set the guest's memory to {}", size::show(bytes)))?;
    // A daemon that is given the file could otherwise cut it off, and with it
    // the memory under this process.
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)
        .context("cannot seal the size of the guest's memory")?;
    if huge {
        // Huge pages that are missing later would end the process.
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).with_context(|| {
            format!(
                "the host has no {} huge pages of 2 MiB free; raise vm.nr_hugepages, or leave out \
                 --hugepages",
                bytes / HUGE_PAGE
            )
        })?;
    }
    Ok(file)
}

fn map(bytes: u64, file: &Arc<File>) -> Result<Memory, FromRangesError> {
    let low = bytes.min(layout::LOW_MEMORY_END);
    let mut ranges = vec![(0, low, 0)];
    if bytes > low {
        ranges.push((layout::HIGH_MEMORY, bytes - low, low));
    }
    let ranges = ranges.into_iter().map(|(address, len, offset)| {
        let file = FileOffset::from_arc(file.clone(), offset);
        // What does not fit fails to be mapped.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        (GuestAddress(address), len, Some(file))
    });
    GuestMemoryMmap::from_ranges_with_files(ranges).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn memory_leaves_the_gap_free_and_is_one_file() {
        let bytes = layout::LOW_MEMORY_END + (8 << 20);
        let memory = make(bytes, false).unwrap();
        let regions: Vec<_> = memory
            .iter()
            .map(|region| (region.start_addr().0, region.len()))
            .collect();
        assert_eq!(
            regions,
            [(0, layout::LOW_MEMORY_END), (layout::HIGH_MEMORY, 8 << 20)]
        );
        // The last page of the low part and the first of the high one are
        // neighbours in the file, and not the same.
        memory
            .write_obj(1u64, GuestAddress(layout::LOW_MEMORY_END - 8))
            .unwrap();
        memory
            .write_obj(2u64, GuestAddress(layout::HIGH_MEMORY))
            .unwrap();
        let high = memory
            .find_region(GuestAddress(layout::HIGH_MEMORY))
            .unwrap();
        let file = high.file_offset().unwrap();
        let mut around = [0; 16];
        std::os::unix::fs::FileExt::read_exact_at(file.file(), &mut around, file.start() - 8)
            .unwrap();
        assert_eq!(around, [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn whoever_is_given_the_memory_cannot_cut_it_off() {
        let memory = make(32 << 20, false).unwrap();
        let region = memory.iter().next().unwrap();
        let file = region.file_offset().unwrap().file();
        assert!(file.set_len(16 << 20).is_err());
        assert!(file.set_len(64 << 20).is_err());
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_in_a_sentence() {
        for (bytes, word) in [
            (0, "too little"),
            ((64 << 20) + 1, "whole number of pages"),
            (1 << 60, "more than the host's"),
        ] {
            let error = make(bytes, false).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
