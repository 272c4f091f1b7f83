// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a disk was told, in order, and what is on it after a power cut.
//!
//! QEMU's `blklogwrites` writes the log, in the format of the kernel's
//! dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst). An
//! entry is made when its request is done. A disk keeps what was done before a
//! flush; of what came later, it keeps anything.

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const SECTOR: u64 = 512;

/// Flags of an entry.
const FLUSH: u64 = 1;
const FORCED: u64 = 2;
const DISCARD: u64 = 4;

/// Bytes that are copied at once.
const CHUNK: u64 = 1 << 20;

/// A request that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    flags: u64,
    /// In bytes, on the disk.
    at: u64,
    length: u64,
    /// Where in the log the data is, in bytes.
    data: u64,
}

/// The log of a disk.
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

/// When the power is cut, and what the disk makes of it.
#[derive(Clone, Debug)]
pub struct PowerCut {
    /// After so many requests.
    pub requests: usize,
    /// Whether the disk forgets what it has called flushed, too: all that was
    /// written in the last so many requests. A good disk has 0.
    pub forgets: usize,
    /// Writes to this part of the disk are kept in any case: bytes.
    pub kept: Range<u64>,
    /// From which it follows what is kept of what need not be.
    pub seed: u64,
}

impl WriteLog {
    /// Reads the log at `path`, up to where the power was cut.
    ///
    /// # Errors
    /// It is no log.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let size = file.metadata().context("cannot stat a log")?.len();
        // The first sector is written at flushes, and so may be late.
        let mut at = SECTOR;
        let mut entries = Vec::new();
        while at + SECTOR <= size {
            let mut header = [0; 32];
            file.read_exact_at(&mut header, at)
                .context("cannot read a log")?;
            let mut words = header.chunks_exact(8).map(|word| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(word);
                u64::from_le_bytes(bytes)
            });
            let mut word = || words.next().unwrap_or_default();
            let (sector, sectors, flags) = (word(), word(), word());
            if sectors == 0 && flags == 0 {
                // Not written any more.
                break;
            }
            ensure!(flags < 16, "entry {} is damaged", entries.len());
            let entry = Entry {
                flags,
                at: sector * SECTOR,
                length: sectors * SECTOR,
                data: at + SECTOR,
            };
            at = entry.data;
            if flags & DISCARD == 0 {
                at += entry.length;
            }
            if at > size {
                break;
            }
            entries.push(entry);
        }
        let mut magic = [0; 8];
        file.read_exact_at(&mut magic, 0)
            .context("cannot read a log")?;
        ensure!(
            u64::from_le_bytes(magic) == MAGIC,
            "{} is no log, or nothing was flushed",
            path.display()
        );
        Ok(Self { file, entries })
    }

    /// Requests in it.
    pub fn requests(&self) -> usize {
        self.entries.len()
    }

    /// Flushes in it.
    pub fn flushes(&self) -> usize {
        let is_flush = |entry: &&Entry| entry.flags & FLUSH != 0;
        self.entries.iter().filter(is_flush).count()
    }

    /// Makes of `image`, which is as the disk was at first, what is on it after
    /// `cut`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn replay(&self, image: &Path, cut: &PowerCut) -> Result<()> {
        let image = File::options()
            .write(true)
            .open(image)
            .context("cannot open an image")?;
        let entries = self.entries.get(..cut.requests).unwrap_or(&self.entries);
        let flushed = entries
            .iter()
            .rposition(|entry| entry.flags & FLUSH != 0)
            .unwrap_or(0);
        let sure = flushed.min(entries.len().saturating_sub(cut.forgets));
        let mut random = cut.seed | 1;
        for (number, entry) in entries.iter().enumerate() {
            let is_kept = cut.kept.start <= entry.at && entry.at + entry.length <= cut.kept.end;
            let is_forced = entry.flags & FORCED != 0 && cut.forgets == 0;
            let length = if number < sure || is_kept || is_forced {
                entry.length
            } else {
                // All, nothing, or some of its sectors.
                random = tmem_load::content::mix(random);
                match random % 4 {
                    0 | 1 => 0,
                    2 => entry.length,
                    _ => random / 4 % (entry.length / SECTOR).max(1) * SECTOR,
                }
            };
            self.apply(entry, length, &image)?;
        }
        Ok(())
    }

    /// Does the first `length` bytes of a request.
    fn apply(&self, entry: &Entry, length: u64, image: &File) -> Result<()> {
        let mut buffer = Vec::new();
        let mut done = 0;
        while done < length {
            let count = (length - done).min(CHUNK);
            buffer.clear();
            buffer.resize(usize::try_from(count)?, 0);
            if entry.flags & DISCARD == 0 {
                self.file
                    .read_exact_at(&mut buffer, entry.data + done)
                    .context("cannot read a log")?;
            }
            image
                .write_all_at(&buffer, entry.at + done)
                .context("cannot write an image")?;
            done += count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of these: flags, sector, and what is written in one sector.
    fn log(requests: &[(u64, u64, u8)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.resize(512, 0);
        for (flags, sector, byte) in requests {
            let sectors = u64::from(flags & FLUSH == 0);
            for word in [*sector, sectors, *flags, 0] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            if flags & (FLUSH | DISCARD) == 0 {
                bytes.extend([*byte; 512]);
            }
        }
        // What was not written any more.
        bytes.resize(bytes.len() + 4096, 0);
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn after(log: &WriteLog, cut: &PowerCut) -> Vec<u8> {
        let image = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(image.path(), vec![9; 8 * 512]).unwrap();
        log.replay(image.path(), cut).unwrap();
        let bytes = std::fs::read(image.path()).unwrap();
        bytes.chunks(512).map(|sector| sector[0]).collect()
    }

    fn cut(requests: usize, seed: u64) -> PowerCut {
        PowerCut {
            requests,
            forgets: 0,
            kept: 0..0,
            seed,
        }
    }

    #[test]
    fn what_was_flushed_is_there_and_the_rest_may_be() {
        let file = log(&[
            (0, 1, 1),
            (DISCARD, 2, 0),
            (FLUSH, 0, 0),
            (0, 1, 3),
            (0, 4, 4),
        ]);
        let log = WriteLog::open(file.path()).unwrap();
        assert_eq!((log.requests(), log.flushes()), (5, 1));
        assert_eq!(after(&log, &cut(3, 1)), [9, 1, 0, 9, 9, 9, 9, 9]);
        let mut seen = std::collections::HashSet::new();
        for seed in 0..200 {
            let found = after(&log, &cut(5, seed));
            assert_eq!(found[2], 0);
            seen.insert((found[1], found[4]));
        }
        let all = [(1, 9), (1, 4), (3, 9), (3, 4)].into_iter().collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn a_bad_disk_forgets_what_was_flushed_but_not_what_is_kept() {
        let file = log(&[(0, 1, 1), (0, 2, 2), (FLUSH, 0, 0)]);
        let log = WriteLog::open(file.path()).unwrap();
        let bad = |seed| PowerCut {
            forgets: 3,
            kept: 1024..1536,
            ..cut(3, seed)
        };
        let found: Vec<_> = (0..50).map(|seed| after(&log, &bad(seed))).collect();
        assert!(found.iter().all(|disk| disk[2] == 2));
        assert!(found.iter().any(|disk| disk[1] == 9));
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![0; 4096]).unwrap();
        assert!(WriteLog::open(file.path()).is_err());
    }
}
