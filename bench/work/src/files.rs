// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reads a tree of files, each from its start to its end, in a random order.

use crate::Outcome;
use crate::sum::Sum;
use anyhow::Context;
use anyhow::Result;
use fastrand::Rng;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

/// Bytes that are read at once: what cp takes.
const BUFFER: usize = 128 * 1024;

/// Reads everything below `top`, in an order that follows from `seed`. The time
/// is that of opening and reading.
///
/// # Errors
/// Something cannot be read.
pub fn read(top: &Path, seed: u64) -> Result<Outcome> {
    let mut paths = list(top)?;
    Rng::with_seed(seed).shuffle(&mut paths);
    let start = Instant::now();
    let mut outcome = Outcome::default();
    let mut buffer = vec![0; BUFFER];
    for path in &paths {
        let name = path.strip_prefix(top).unwrap_or(path);
        let mut sum = Sum::default();
        sum.add(name.as_os_str().as_bytes());
        outcome.bytes += content(path, &mut buffer, &mut sum)?;
        outcome.count += 1;
        // In whatever order they come.
        outcome.sum = outcome.sum.wrapping_add(sum.value());
    }
    Ok(outcome.timed(start.elapsed()))
}

fn content(path: &Path, buffer: &mut [u8], sum: &mut Sum) -> Result<u64> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(cannot)?;
    let mut bytes = 0;
    loop {
        let count = fill(&mut file, buffer).with_context(cannot)?;
        sum.add(buffer.get(..count).unwrap_or_default());
        bytes += count as u64;
        if count < buffer.len() {
            return Ok(bytes);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = buffer.get_mut(count..)
        && !rest.is_empty()
    {
        match file.read(rest)? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

/// The plain files below `top`, sorted.
fn list(top: &Path) -> Result<Vec<PathBuf>> {
    let mut left = vec![top.to_path_buf()];
    let mut found = Vec::new();
    while let Some(dir) = left.pop() {
        let cannot = || format!("cannot read {}", dir.display());
        for entry in std::fs::read_dir(&dir).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let kind = entry.file_type().with_context(cannot)?;
            if kind.is_dir() {
                left.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
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
    fn the_order_does_not_matter_but_content_and_names_do() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        std::fs::create_dir(top.join("a")).unwrap();
        std::fs::write(top.join("a/one"), vec![7; 300_000]).unwrap();
        std::fs::write(top.join("two"), "two").unwrap();
        let first = read(top, 1).unwrap();
        assert_eq!((first.count, first.bytes), (2, 300_003));
        assert!(first.is_like(&read(top, 2).unwrap()));
        std::fs::rename(top.join("two"), top.join("a/two")).unwrap();
        assert!(!first.is_like(&read(top, 1).unwrap()));
        std::fs::rename(top.join("a/two"), top.join("two")).unwrap();
        std::fs::write(top.join("two"), "twp").unwrap();
        assert!(!first.is_like(&read(top, 1).unwrap()));
    }
}
