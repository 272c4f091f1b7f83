// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A record in a file of memory, valid whenever its writer ends.
//!
//! The record is there twice, each copy with a number that grows and a checksum; a writer
//! writes over the older one. So one is whole at any time, and the one with the greater
//! number counts. Before them are some words that each are written by one store.
//!
//! | bytes | |
//! |---|---|
//! | 0–7 | `tmemrec`, version of the layout |
//! | 8–4095 | words of 64 bits |
//! | 4096 | first copy: number (8), bytes (4), CRC-32 of number, bytes and content (4), content |
//! | 4096 + 512 KiB | second copy |
//!
//! All numbers are little-endian. The content is JSON.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{fstat, ftruncate};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

const MAGIC: [u8; 8] = *b"tmemrec\x01";
const WORDS_AT: usize = 8;
/// Words that a record has.
pub const WORDS: usize = (COPIES_AT - WORDS_AT) / 8;
const COPIES_AT: usize = 4096;
const COPY: usize = 512 << 10;
const HEADER: usize = 16;
/// Bytes of a record's file, most of which take no memory.
const BYTES: usize = COPIES_AT + 2 * COPY;

/// A record that this process alone writes.
#[derive(Debug)]
pub struct Record {
    region: MmapRegion,
    /// The copy that counts, and its number.
    last: Mutex<Option<(usize, u64)>>,
    /// What was there could not be read.
    is_lost: bool,
}

impl Record {
    /// Takes over the record in a file that never shrinks and that nobody else writes to;
    /// and its content, if there is any that was written as a whole and is known.
    ///
    /// # Errors
    /// When the file cannot be mapped.
    pub fn open<T: DeserializeOwned>(
        file: OwnedFd,
        is_known: impl FnOnce(&T) -> bool,
    ) -> io::Result<(Self, Option<T>)> {
        let len = fstat(&file)?.st_size;
        if u64::try_from(len).is_ok_and(|len| len < BYTES as u64) {
            ftruncate(&file, BYTES as u64)?;
        }
        let file = FileOffset::new(File::from(file), 0);
        let region = MmapRegion::from_file(file, BYTES).map_err(io::Error::other)?;
        let mut this = Self {
            region,
            last: Mutex::new(None),
            is_lost: false,
        };
        this.is_lost = this.has_any()?;
        let content = this.read()?.filter(is_known);
        match content {
            Some(_) => this.is_lost = false,
            None => this.clear()?,
        }
        Ok((this, content))
    }

    /// Whether something was there when it was taken over that could not be read: it is damaged, or of
    /// another version.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    fn last(&self) -> MutexGuard<'_, Option<(usize, u64)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slice(&self, at: usize, bytes: usize) -> io::Result<VolatileSlice<'_>> {
        self.region.get_slice(at, bytes).map_err(io::Error::other)
    }

    /// Makes it one without content. What is there counts no more from the first store on.
    fn clear(&self) -> io::Result<()> {
        *self.last() = None;
        self.slice(0, COPIES_AT)?
            .write_slice(&[0; COPIES_AT], 0)
            .map_err(io::Error::other)?;
        for copy in 0..2 {
            let header = self.slice(COPIES_AT + copy * COPY, HEADER)?;
            header
                .write_slice(&[0; HEADER], 0)
                .map_err(io::Error::other)?;
        }
        self.slice(0, 8)?
            .store(u64::from_le_bytes(MAGIC).to_le(), 0, Release)
            .map_err(io::Error::other)
    }

    /// Whether anybody has written a content, or what is no record.
    fn has_any(&self) -> io::Result<bool> {
        let is_zero = |at: usize| -> io::Result<bool> {
            let mut word = [0; 8];
            let slice = self.slice(at, word.len())?;
            slice.read_slice(&mut word, 0).map_err(io::Error::other)?;
            Ok(word == [0; 8] || (at == 0 && word == MAGIC))
        };
        Ok(!is_zero(0)? || !is_zero(COPIES_AT)? || !is_zero(COPIES_AT + COPY)?)
    }

    /// The content that counts.
    fn read<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let mut magic = [0; 8];
        self.slice(0, 8)?
            .read_slice(&mut magic, 0)
            .map_err(io::Error::other)?;
        if magic != MAGIC {
            return Ok(None);
        }
        let mut best: Option<(usize, u64, Vec<u8>)> = None;
        for copy in 0..2 {
            if let Some((number, content)) = self.copy(copy)?
                && best.as_ref().is_none_or(|(_, other, _)| *other < number)
            {
                best = Some((copy, number, content));
            }
        }
        let Some((copy, number, content)) = best else {
            return Ok(None);
        };
        // Written by a version that knows other things, if it cannot be read.
        let content = serde_json::from_slice(&content).ok();
        *self.last() = content.is_some().then_some((copy, number));
        Ok(content)
    }

    /// The number and content of a copy that is as it was written.
    fn copy(&self, copy: usize) -> io::Result<Option<(u64, Vec<u8>)>> {
        let slice = self.slice(COPIES_AT + copy * COPY, COPY)?;
        let mut header = [0; HEADER];
        slice.read_slice(&mut header, 0).map_err(io::Error::other)?;
        let [
            n0,
            n1,
            n2,
            n3,
            n4,
            n5,
            n6,
            n7,
            l0,
            l1,
            l2,
            l3,
            c0,
            c1,
            c2,
            c3,
        ] = header;
        let number = u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let checksum = u32::from_le_bytes([c0, c1, c2, c3]);
        if number == 0 || len as usize > COPY - HEADER {
            return Ok(None);
        }
        let mut content = vec![0; len as usize];
        slice
            .read_slice(&mut content, HEADER)
            .map_err(io::Error::other)?;
        Ok((checksum == check(number, &content)).then_some((number, content)))
    }

    /// Replaces the content.
    ///
    /// # Errors
    /// When it is too long, or there is no memory for it. What was there stays.
    pub fn write<T: Serialize>(&self, content: &T) -> io::Result<()> {
        let content = serde_json::to_vec(content)?;
        let len = u32::try_from(content.len())
            .ok()
            .filter(|len| *len as usize <= COPY - HEADER)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        let mut last = self.last();
        let (copy, number) = match *last {
            Some((copy, number)) => (1 - copy.min(1), number.wrapping_add(1)),
            None => (0, 1),
        };
        let at = COPIES_AT + copy * COPY;
        self.back(at, HEADER + content.len())?;
        let slice = self.slice(at, COPY)?;
        slice
            .write_slice(&content, HEADER)
            .map_err(io::Error::other)?;
        let mut header = [0; HEADER];
        let (first, rest) = header.split_at_mut(8);
        let (second, third) = rest.split_at_mut(4);
        first.copy_from_slice(&number.to_le_bytes());
        second.copy_from_slice(&len.to_le_bytes());
        third.copy_from_slice(&check(number, &content).to_le_bytes());
        slice.write_slice(&header, 0).map_err(io::Error::other)?;
        *last = Some((copy, number));
        Ok(())
    }

    /// Has the system back bytes with memory, so that access to them cannot fail.
    fn back(&self, at: usize, bytes: usize) -> io::Result<()> {
        let Some(file) = self.region.file_offset() else {
            return Ok(());
        };
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(file.file(), flags, at as u64, bytes as u64)
        })?;
        Ok(())
    }

    /// The word with this number, below [`WORDS`]; 0 if it was never stored.
    pub fn word(&self, nth: usize) -> u64 {
        let word = self.slice(WORDS_AT + 8 * nth, 8);
        let word = word.and_then(|word| word.load(0, Acquire).map_err(io::Error::other));
        u64::from_le(word.unwrap_or(0))
    }

    /// Stores a word.
    pub fn set_word(&self, nth: usize, word: u64) {
        if let (true, Ok(slice)) = (nth < WORDS, self.slice(WORDS_AT + 8 * nth, 8)) {
            // It is mapped and aligned.
            let _ = slice.store(word.to_le(), 0, Release);
        }
    }
}

fn check(number: u64, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&(content.len() as u64).to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}
