// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a load says: one JSON object a line.

use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// The code that a load ends with when a byte was wrong.
pub const WRONG: i32 = 1;

/// The code that it ends with when something could not be done.
pub const FAILED: i32 = 2;

/// A line of output.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Event {
    /// It works, and heeds signals.
    Started {
        /// From which everything follows.
        seed: u32,
    },
    /// Now and then.
    Progress(Report),
    /// Everything was read from the disk and is right.
    Checked {
        /// Which time, counted from 1.
        round: u64,
        /// Bytes compared.
        bytes: u64,
    },
    /// The end; all is right.
    Done(Report),
    /// A byte is not what it must be: a sentence.
    Wrong(String),
    /// Something could not be done: a sentence.
    Failed(String),
}

/// What was done so far.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Report {
    /// From which everything follows.
    pub seed: u32,
    /// Since the start.
    pub seconds: u64,
    /// Operations, by kind.
    pub operations: BTreeMap<String, u64>,
    /// Operations that the file system or the device does not have.
    pub refused: BTreeMap<String, u64>,
    /// Bytes read and compared.
    pub verified_bytes: u64,
    /// Times that everything was read from the disk and compared.
    pub checks: u64,
}

impl Report {
    /// Operations of all kinds.
    pub fn total(&self) -> u64 {
        self.operations.values().sum()
    }
}

/// Counts while threads work.
#[derive(Debug, Default)]
pub struct Counters {
    operations: Mutex<BTreeMap<&'static str, u64>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    verified: AtomicU64,
    checks: AtomicU64,
}

impl Counters {
    /// An operation is done.
    pub fn done(&self, kind: &'static str) {
        Self::raise(&self.operations, kind);
    }

    /// There is no such operation here.
    pub fn refused(&self, kind: &'static str) {
        Self::raise(&self.refused, kind);
    }

    /// `bytes` were read and are right.
    pub fn verified(&self, bytes: usize) {
        self.verified.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that were read and are right.
    pub fn verified_bytes(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    /// All was read from the disk and is right; gives back which time.
    pub fn checked(&self) -> u64 {
        self.checks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All of it.
    pub fn report(&self, seed: u32, seconds: u64) -> Report {
        let copy = |counts: &Mutex<BTreeMap<&'static str, u64>>| {
            let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.iter().map(|(k, n)| ((*k).to_string(), *n)).collect()
        };
        Report {
            seed,
            seconds,
            operations: copy(&self.operations),
            refused: copy(&self.refused),
            verified_bytes: self.verified_bytes(),
            checks: self.checks.load(Ordering::Relaxed),
        }
    }

    fn raise(counts: &Mutex<BTreeMap<&'static str, u64>>, kind: &'static str) {
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(kind).or_default() += 1;
    }
}

/// Writes a line of output.
pub fn say(event: &Event) {
    // Whoever listens has gone; the exit code is left.
    if let Ok(line) = serde_json::to_string(event) {
        println!("{line}");
    }
}
