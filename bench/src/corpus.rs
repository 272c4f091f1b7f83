// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Real page content: memory of live processes, and files.
//!
//! Zeros and constants flatter every codec, so a page of a process is taken
//! only if `/proc/PID/pagemap` says that it is present (an unmapped page reads
//! as zeros).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tmem_store::{PAGE_SIZE, Page};

/// Bit 63 of a `/proc/PID/pagemap` entry: the page is in memory.
const PAGEMAP_PRESENT: u64 = 1 << 63;

/// Pages to measure with, and where they come from.
pub(crate) struct Corpus {
    /// Anonymous pages of live processes.
    pub(crate) process: Vec<Page>,
    /// Pages of files below `/usr/lib`.
    pub(crate) file: Vec<Page>,
    processes: usize,
    files: usize,
}

impl Corpus {
    /// Takes up to `pages` pages of each sort, spread over all there is.
    pub(crate) fn collect(pages: usize) -> Result<Self> {
        let (process, processes) = process_pages(pages)?;
        let (file, files) = file_pages(Path::new("/usr/lib"), pages);
        if process.is_empty() || file.is_empty() {
            bail!(
                "no real pages found: {} of processes, {} of files; \
                 reading the memory of other processes needs root",
                process.len(),
                file.len()
            );
        }
        Ok(Self {
            process,
            file,
            processes,
            files,
        })
    }

    /// One sentence on what is measured with.
    pub(crate) fn describe(&self) -> String {
        format!(
            "content: {} anonymous pages of {} live processes, {} pages of {} files",
            self.process.len(),
            self.processes,
            self.file.len(),
            self.files
        )
    }

    /// Both sorts, in turn.
    pub(crate) fn mixed(&self) -> Vec<Page> {
        let mut mixed = Vec::with_capacity(self.process.len() + self.file.len());
        let mut file = self.file.iter();
        for page in &self.process {
            mixed.push(*page);
            mixed.extend(file.next());
        }
        mixed.extend(file);
        mixed
    }
}

/// Keeps `want` of `all`, evenly spread.
fn spread<T>(all: Vec<T>, want: usize) -> Vec<T> {
    let step = all.len().div_ceil(want.max(1)).max(1);
    all.into_iter().step_by(step).collect()
}

fn process_pages(want: usize) -> Result<(Vec<Page>, usize)> {
    let own = std::process::id();
    let mut pages = Vec::new();
    let mut processes = 0;
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|s| s.parse::<u32>().ok())
        else {
            continue;
        };
        if pid == own {
            continue;
        }
        // A process may end at any time; one that may not be read is skipped.
        let taken = pages_of(pid, want).unwrap_or_default();
        if !taken.is_empty() {
            processes += 1;
            pages.extend(taken);
        }
    }
    Ok((spread(pages, want), processes))
}

/// Private writable anonymous ranges of `/proc/PID/maps`.
fn anonymous_ranges(maps: &str) -> impl Iterator<Item = (u64, u64)> {
    maps.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let access = words.next()?;
        let inode = words.nth(2)?;
        let range = (
            u64::from_str_radix(start, 16).ok()?,
            u64::from_str_radix(end, 16).ok()?,
        );
        (access == "rw-p" && inode == "0").then_some(range)
    })
}

fn pages_of(pid: u32, want: usize) -> Result<Vec<Page>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mem = File::open(format!("/proc/{pid}/mem"))?;
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
    let mut present = Vec::new();
    for (start, end) in anonymous_ranges(&maps) {
        let first = start / PAGE_SIZE as u64;
        let count = usize::try_from(end / PAGE_SIZE as u64 - first)?;
        let mut entries = vec![0_u8; count.min(1 << 20) * 8];
        let Ok(read) = pagemap.read_at(&mut entries, first * 8) else {
            continue;
        };
        for (number, entry) in (first..).zip(entries.chunks_exact(8).take(read / 8)) {
            if u64::from_ne_bytes(entry.try_into()?) & PAGEMAP_PRESENT != 0 {
                present.push(number);
            }
        }
    }
    let mut pages = Vec::new();
    for number in spread(present, want) {
        let mut page = [0; PAGE_SIZE];
        if mem
            .read_exact_at(&mut page, number * PAGE_SIZE as u64)
            .is_ok()
        {
            pages.push(page);
        }
    }
    Ok(pages)
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

fn file_pages(dir: &Path, want: usize) -> (Vec<Page>, usize) {
    let mut paths = Vec::new();
    files_below(dir, &mut paths);
    paths.sort_unstable();
    let paths = spread(paths, want.div_ceil(4));
    let mut pages = Vec::new();
    let mut files = 0;
    for path in paths {
        let Ok(file) = File::open(&path) else {
            continue;
        };
        let before = pages.len();
        let full_pages = file
            .metadata()
            .map_or(0, |meta| meta.len() / PAGE_SIZE as u64);
        // A few from each, so that one large library does not stand for all.
        let step = full_pages.div_ceil(8).max(1);
        for number in (0..full_pages).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            let mut page = [0; PAGE_SIZE];
            if file
                .read_exact_at(&mut page, number * PAGE_SIZE as u64)
                .is_ok()
            {
                pages.push(page);
            }
        }
        files += usize::from(pages.len() > before);
    }
    (spread(pages, want), files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_writable_anonymous_ranges_are_taken() {
        let maps = "1000-3000 rw-p 00000000 00:00 0 [heap]\n\
                    4000-5000 r--p 00000000 00:00 0\n\
                    6000-7000 rw-p 00000000 08:01 42 /usr/lib/libc.so\n";
        assert_eq!(
            anonymous_ranges(maps).collect::<Vec<_>>(),
            [(0x1000, 0x3000)]
        );
    }

    #[test]
    fn pages_spread_over_all_there_is() {
        assert_eq!(spread((0..100).collect(), 4), [0, 25, 50, 75]);
        assert_eq!(spread(vec![1, 2], 8), [1, 2]);
    }
}
