// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files, read through the page cache.

use crate::clock::{self, Clock};
use crate::order::Answer;
use anyhow::{Context as _, Result};
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Reads every file below `top`, one after the other in a random order, `piece` bytes at a time.
///
/// # Errors
/// When one cannot be read.
pub fn read_all(top: &Path, piece: usize, seed: u64, clock: &Clock) -> Result<Answer> {
    let mut files = below(top)?;
    fastrand::Rng::with_seed(seed).shuffle(&mut files);
    let mut buffer = vec![0; piece];
    let mut answer = Answer::default();
    let start = clock::now();
    for path in files {
        let file = open(&path)?;
        let mut offset = 0;
        loop {
            let before = clock::now();
            let read = file.read_at(&mut buffer, offset);
            let time = clock.between(before, clock::now());
            let read = read.with_context(|| format!("cannot read {}", path.display()))?;
            if read == 0 {
                break;
            }
            answer.times.add(time);
            answer.count += 1;
            offset += read as u64;
        }
        answer.bytes += offset;
    }
    answer.nanoseconds = u64::try_from(clock.between(start, clock::now()).as_nanos())?;
    Ok(answer)
}

/// Reads `count` pieces of `piece` bytes from random places of the files below `top`; no piece
/// twice, as long as there are enough. The kernel reads nothing ahead.
///
/// # Errors
/// When one cannot be read.
pub fn read_random(
    top: &Path,
    piece: usize,
    count: usize,
    seed: u64,
    clock: &Clock,
) -> Result<Answer> {
    let mut places = Vec::new();
    let mut files = Vec::new();
    for path in below(top)? {
        let file = open(&path)?;
        fadvise(&file, 0, None, Advice::Random).context("the kernel takes no advice")?;
        let pieces = file.metadata()?.len() / piece as u64;
        places.extend((0..pieces).map(|number| (files.len(), number * piece as u64)));
        files.push(file);
    }
    fastrand::Rng::with_seed(seed).shuffle(&mut places);
    let mut buffer = vec![0; piece];
    let mut answer = Answer::default();
    for (file, offset) in places.into_iter().take(count) {
        let file = files.get(file).context("no such file")?;
        let before = clock::now();
        let read = file.read_exact_at(&mut buffer, offset);
        let time = clock.between(before, clock::now());
        read.context("cannot read a file")?;
        answer.times.add(time);
        answer.count += 1;
        answer.bytes += piece as u64;
        answer.nanoseconds += u64::try_from(time.as_nanos())?;
    }
    Ok(answer)
}

/// Looks for all files below `top`, and opens them.
///
/// # Errors
/// When one cannot be opened.
pub fn list(top: &Path) -> Result<()> {
    below(top)?.iter().try_for_each(|path| open(path).map(drop))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// All files below `top`, sorted.
fn below(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![top.to_path_buf()];
    while let Some(dir) = left.pop() {
        let entries =
            fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_read_whole_or_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("a"), [1; 10_000]).unwrap();
        fs::write(dir.path().join("b/c"), [2; 5_000]).unwrap();
        let clock = Clock::new();
        let all = read_all(dir.path(), 4096, 3, &clock).unwrap();
        assert_eq!((all.bytes, all.count, all.times.count()), (15_000, 5, 5));
        let some = read_random(dir.path(), 4096, 2, 3, &clock).unwrap();
        assert_eq!((some.bytes, some.count), (8192, 2));
        // There are no more than these.
        let most = read_random(dir.path(), 4096, 100, 3, &clock).unwrap();
        assert_eq!(most.count, 3);
    }
}
