// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which pages of a process are in swap: its files in /proc.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::terms::PAGE_BYTES;

/// Bytes that /proc/PID/pagemap has for each page.
const ENTRY: usize = 8;

/// In an entry: the page is in swap.
const SWAPPED: u64 = 1 << 62;

/// Entries that are read at a time.
const ENTRIES: usize = 512;

/// The directories of all processes.
pub(super) fn all(proc: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(proc).with_context(|| format!("cannot read {}", proc.display()))?;
    let is_number = |name: &str| name.bytes().all(|digit| digit.is_ascii_digit());
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(is_number)
        })
        .collect())
}

/// Calls `found` with the address of each page that is in swap, and the process's
/// memory, until it says `false`.
pub(super) fn swapped(
    process: &Path,
    mut found: impl FnMut(u64, &File) -> Result<bool>,
) -> Result<()> {
    let maps = fs::read_to_string(process.join("maps"))?;
    let pagemap = File::open(process.join("pagemap"))?;
    let memory = File::open(process.join("mem"))?;
    let mut bytes = [0; ENTRIES * ENTRY];
    for range in maps.lines().filter_map(mapping) {
        let mut at = range.start;
        while at < range.end {
            let left = usize::try_from((range.end - at) / PAGE_BYTES).unwrap_or(ENTRIES);
            let wanted = left.min(ENTRIES) * ENTRY;
            let buffer = bytes.get_mut(..wanted).unwrap_or_default();
            let offset = (at / PAGE_BYTES).saturating_mul(ENTRY as u64);
            let read = read_at(&pagemap, buffer, offset)?;
            let (entries, _) = bytes.get(..read).unwrap_or_default().as_chunks::<ENTRY>();
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                if u64::from_ne_bytes(*entry) & SWAPPED != 0 && !found(at, &memory)? {
                    return Ok(());
                }
                at = at.saturating_add(PAGE_BYTES);
            }
        }
    }
    Ok(())
}

/// Reads a byte of a page, by which it comes back; says whether it could be read.
pub(super) fn touch(memory: &File, address: u64) -> bool {
    memory
        .read_at(&mut [0], address)
        .is_ok_and(|read| read == 1)
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Of a line as `7f00-7f01 rw-p 00000000 00:00 0`.
fn mapping(line: &str) -> Option<Range<u64>> {
    let (start, rest) = line.split_once('-')?;
    let (end, _) = rest.split_once(' ')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_a_range_of_addresses() {
        assert_eq!(
            mapping("7f00-7f01f rw-p 00000000 00:00 0  [heap]"),
            Some(0x7f00..0x7f01f)
        );
        assert_eq!(mapping("nonsense"), None);
        assert_eq!(mapping("2-1 r"), None);
    }
}
