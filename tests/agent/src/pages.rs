// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages with real content, each known by its number.
//!
//! A page is made of two pages out of files in `/usr/lib`, programs and text
//! as they lie on every machine: the first part of one and the rest of the
//! other. Which two, and where the seam is, follows from (seed, number,
//! generation). The first 32 bytes are those three numbers and a check, so no
//! two pages are equal, and a page that turns up where it does not belong
//! says whose it is. Compression sees 99 % real bytes.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// A page of memory.
pub type Page = [u8; PAGE_SIZE];

/// Bytes at the start of a page that name it.
const NAME: usize = 32;

/// Files smaller than this are not worth an open file.
const MIN_FILE: u64 = 64 * 1024;

/// The real content that pages are made of.
pub struct Corpus {
    /// Each file with the number of its first page.
    files: Vec<(u64, File)>,
    pages: u64,
}

/// Which page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageName {
    /// Of the workload.
    pub seed: u64,
    /// Of the page in the workload.
    pub number: u64,
    /// Raised when the page gets a new content.
    pub generation: u64,
}

impl Corpus {
    /// Opens the files below `dir`.
    ///
    /// # Errors
    /// A file cannot be read, or there are too few to be called real content.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut corpus = Self {
            files: Vec::new(),
            pages: 0,
        };
        let mut left = vec![dir.to_path_buf()];
        while let Some(dir) = left.pop() {
            let entries =
                fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
            for entry in entries {
                let path = entry.context("cannot read a directory")?.path();
                let data = fs::symlink_metadata(&path)
                    .with_context(|| format!("cannot stat {}", path.display()))?;
                if data.is_dir() {
                    left.push(path);
                } else if data.is_file() && data.len() >= MIN_FILE {
                    let file = File::open(&path)
                        .with_context(|| format!("cannot open {}", path.display()))?;
                    corpus.files.push((corpus.pages, file));
                    corpus.pages += data.len() / PAGE_SIZE as u64;
                }
            }
        }
        if corpus.pages < 256 {
            bail!(
                "{} holds {} pages of real content, too few to make distinct pages of",
                dir.display(),
                corpus.pages
            );
        }
        Ok(corpus)
    }

    /// Pages of real content.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    fn read(&self, number: u64, at: usize, into: &mut [u8]) -> Result<()> {
        let after = self.files.partition_point(|(first, _)| *first <= number);
        let Some((first, file)) = after.checked_sub(1).and_then(|i| self.files.get(i)) else {
            bail!("page {number} is in no file");
        };
        let offset = (number - first) * PAGE_SIZE as u64 + at as u64;
        file.read_exact_at(into, offset)
            .context("cannot read real content")
    }

    /// Writes the page called `name` to `page`.
    ///
    /// # Errors
    /// The real content cannot be read.
    pub fn make(&self, name: PageName, page: &mut Page) -> Result<()> {
        let mut random = name.seed;
        let mut draw = |salt: u64| {
            random = mix(random ^ salt);
            random
        };
        draw(name.number);
        let check = draw(name.generation);
        let (one, other) = (draw(1) % self.pages, draw(2) % self.pages);
        // The seam is anywhere but in the name or at the end.
        let seam = NAME + usize::try_from(draw(3) % (PAGE_SIZE - 2 * NAME) as u64)?;
        let (head, tail) = page.split_at_mut(seam);
        self.read(one, 0, head)?;
        self.read(other, seam, tail)?;
        let words = [name.seed, name.number, name.generation, check];
        for (bytes, word) in page.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Ok(())
    }
}

/// What is wrong with `found`, which should be the page called `name`: a
/// sentence.
pub fn describe(name: PageName, found: &Page, expected: &Page) -> String {
    let mut words = found.chunks_exact(8).filter_map(|bytes| {
        let bytes: &[u8; 8] = bytes.try_into().ok()?;
        Some(u64::from_le_bytes(*bytes))
    });
    let mut word = || words.next().unwrap_or_default();
    let claims = PageName {
        seed: word(),
        number: word(),
        generation: word(),
    };
    let wrong = found.iter().zip(expected).filter(|(a, b)| a != b).count();
    let what = if found.iter().all(|byte| *byte == 0) {
        "is all zeros".to_string()
    } else if claims == name {
        format!("has its own name and {wrong} wrong bytes")
    } else {
        format!("has {wrong} wrong bytes and the name {claims:?}")
    };
    format!("{name:?} {what}")
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): every bit of the
/// input reaches every bit of the output.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
