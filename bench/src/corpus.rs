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
        let (file, files) = file_pages(pages);
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
    let (len, mut kept) = (all.len(), 0);
    let numbered = all.into_iter().enumerate();
    let spread = numbered.filter_map(|(nth, item)| {
        let keep = kept < want && nth * want >= kept * len;
        kept += usize::from(keep);
        keep.then_some(item)
    });
    spread.collect()
}

/// Whether a page is one repeated word, which costs nobody anything.
pub(crate) fn is_same_filled(page: &Page) -> bool {
    let (words, _) = page.as_chunks::<8>();
    words.iter().all(|word| Some(word) == words.first())
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

/// Takes up to `want` anonymous pages of the process `pid`, spread over all it has.
pub(crate) fn pages_of(pid: u32, want: usize) -> Result<Vec<Page>> {
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

/// Files of a page or more below `dir`, and how many full pages each has.
fn files_below(dir: &Path, found: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path(), found),
            Ok(kind) if kind.is_file() => {
                let pages = entry
                    .metadata()
                    .map_or(0, |meta| meta.len() / PAGE_SIZE as u64);
                if pages > 0 {
                    found.push((entry.path(), pages));
                }
            }
            _ => {}
        }
    }
}

/// Numbers of up to `most` of `pages` pages, evenly spread.
fn some_of(pages: u64, most: u64) -> impl Iterator<Item = u64> {
    let step = pages.div_ceil(most).max(1);
    (0..pages).step_by(usize::try_from(step).unwrap_or(usize::MAX))
}

/// How many pages to take from each of `files`, so that there are `want` in all: few, so
/// that one large library does not stand for all.
fn share(files: &[(PathBuf, u64)], want: usize) -> u64 {
    /// There is no more to take then.
    const MOST: u64 = 1 << 16;
    let mut share = 8;
    let taken = |share| {
        let counts = files
            .iter()
            .map(|(_, pages)| some_of(*pages, share).count());
        counts.sum::<usize>()
    };
    while taken(share) < want && share < MOST {
        share *= 2;
    }
    share
}

/// Takes up to `want` pages of files below `/usr/lib`; also how many files they are of.
pub(crate) fn file_pages(want: usize) -> (Vec<Page>, usize) {
    let mut paths = Vec::new();
    files_below(Path::new("/usr/lib"), &mut paths);
    paths.sort_unstable();
    let paths = spread(paths, want.div_ceil(4));
    let share = share(&paths, want);
    let mut pages = Vec::new();
    let mut files = 0;
    for (path, full_pages) in paths {
        let Ok(file) = File::open(&path) else {
            continue;
        };
        let before = pages.len();
        for number in some_of(full_pages, share) {
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
        assert_eq!(spread((0..10).collect(), 4), [0, 3, 5, 8]);
        assert_eq!(spread(vec![1, 2], 8), [1, 2]);
        assert_eq!(spread(vec![1, 2], 0), [0; 0]);
    }

    #[test]
    fn one_large_file_stands_for_all_only_if_there_are_no_others() {
        let files = |sizes: &[u64]| -> Vec<_> {
            let sizes = sizes.iter();
            sizes.map(|pages| (PathBuf::new(), *pages)).collect()
        };
        assert_eq!(share(&files(&[1000, 8, 8]), 24), 8);
        assert_eq!(share(&files(&[1000, 1, 1]), 24), 32);
        assert_eq!(share(&files(&[1]), 24), 1 << 16);
    }

    #[test]
    fn a_page_of_one_repeated_word_is_same_filled() {
        assert!(is_same_filled(&[7; PAGE_SIZE]));
        let mut page = [7; PAGE_SIZE];
        page[PAGE_SIZE - 1] = 8;
        assert!(!is_same_filled(&page));
    }
}
