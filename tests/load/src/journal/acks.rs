// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Acknowledgments on a disk of their own, in the order in which they were
//! made: what was called durable before each of them, must be.

use crate::buffer::Buffer;
use crate::content::mix;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde::Deserialize;
use serde::Serialize;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of a record: a sector, which is written whole or not at all.
const RECORD: usize = 512;

/// Bytes of its check.
const CHECK: usize = 8;

/// What is durable.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) enum Durable {
    /// This part of a file, in this generation or a later one.
    Part {
        file: u32,
        at: u64,
        length: u64,
        generation: u64,
    },
    /// All of a file that was renamed over an older one.
    Whole {
        file: u32,
        length: u64,
        generation: u64,
    },
}

#[derive(Deserialize, Serialize)]
struct Record {
    seed: u32,
    number: u64,
    durable: Durable,
}

fn encode(record: &Record, to: &mut [u8]) -> Result<()> {
    let text = serde_json::to_vec(record).context("cannot encode a record")?;
    ensure!(text.len() + CHECK <= to.len(), "a record is too long");
    to.fill(0);
    if let Some(bytes) = to.get_mut(CHECK..CHECK + text.len()) {
        bytes.copy_from_slice(&text);
    }
    let check = check(to.get(CHECK..).unwrap_or_default());
    if let Some(bytes) = to.get_mut(..CHECK) {
        bytes.copy_from_slice(&check);
    }
    Ok(())
}

fn decode(from: &[u8]) -> Option<Record> {
    let (sum, text) = from.split_at_checked(CHECK)?;
    if sum != check(text) {
        return None;
    }
    let end = text.iter().position(|byte| *byte == 0)?;
    serde_json::from_slice(text.get(..end)?).ok()
}

fn check(bytes: &[u8]) -> [u8; CHECK] {
    let sum = bytes
        .iter()
        .fold(1, |sum, byte| mix(sum ^ u64::from(*byte)));
    sum.to_le_bytes()
}

/// The acknowledgments of one thread.
pub(super) struct Acks<'a> {
    file: &'a File,
    seed: u32,
    /// In bytes.
    from: u64,
    to: u64,
    number: u64,
    buffer: Buffer,
}

impl<'a> Acks<'a> {
    /// Those between the bytes `from` and `to` of `file`, which must be opened
    /// with O_DIRECT to be written.
    pub(super) fn new(file: &'a File, seed: u32, from: u64, to: u64) -> Self {
        Self {
            file,
            seed,
            from,
            to,
            number: 0,
            buffer: Buffer::new(RECORD),
        }
    }

    fn place(&self) -> Option<u64> {
        let at = self.from + self.number * RECORD as u64;
        (at + RECORD as u64 <= self.to).then_some(at)
    }

    /// Adds one; gives back whether there was room.
    pub(super) fn add(&mut self, durable: Durable) -> Result<bool> {
        let Some(at) = self.place() else {
            return Ok(false);
        };
        let record = Record {
            seed: self.seed,
            number: self.number,
            durable,
        };
        let bytes = self.buffer.first(RECORD);
        encode(&record, bytes)?;
        self.file
            .write_all_at(bytes, at)
            .context("cannot acknowledge")?;
        self.number += 1;
        Ok(true)
    }

    /// The next one, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Durable>> {
        let Some(at) = self.place() else {
            return Ok(None);
        };
        let bytes = self.buffer.first(RECORD);
        self.file
            .read_exact_at(bytes, at)
            .context("cannot read acknowledgments")?;
        let record =
            decode(bytes).filter(|record| (record.seed, record.number) == (self.seed, self.number));
        self.number += 1;
        Ok(record.map(|record| record.durable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_read_up_to_the_first_gap() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let durable = |generation| Durable::Part {
            file: 1,
            at: 512,
            length: 1024,
            generation,
        };
        let mut acks = Acks::new(&file, 5, 4096, 8192);
        for generation in 0..8 {
            assert!(acks.add(durable(generation)).unwrap());
        }
        assert!(!acks.add(durable(8)).unwrap(), "there is room for 8");
        file.write_all_at(b"x", 4096 + 6 * 512 + 40).unwrap();
        let mut acks = Acks::new(&file, 5, 4096, 8192);
        for generation in 0..6 {
            assert_eq!(acks.next().unwrap(), Some(durable(generation)));
        }
        assert_eq!(acks.next().unwrap(), None);
        assert_eq!(Acks::new(&file, 6, 4096, 8192).next().unwrap(), None);
    }
}
