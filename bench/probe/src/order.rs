// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Orders and answers.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tmem_work::histogram::Histogram;

/// What the guest is to do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Order {
    /// Take this many pages from the head of a disk into memory: what is written from now on.
    Content {
        /// The disk.
        from: PathBuf,
        /// Pages.
        pages: usize,
    },
    /// Load a module of the kernel.
    Insert {
        /// The module.
        module: PathBuf,
        /// Its parameters.
        parameters: String,
        /// A device that appears then.
        device: Option<PathBuf>,
    },
    /// Make `/dev/zram0`, with LZ4.
    Zram {
        /// Its size.
        mib: u64,
    },
    /// Make a disk in memory that answers after a time.
    SlowDisk {
        /// Its name with the kernel: `/dev/nullb` and a number, by the order in which they are
        /// made.
        name: String,
        /// Its size.
        mib: u64,
        /// The time.
        nanoseconds: u64,
    },
    /// Copy a disk onto another.
    Copy {
        /// What is copied.
        from: PathBuf,
        /// Over what.
        to: PathBuf,
    },
    /// Mount a file system of ext4, to be read.
    Mount {
        /// The disk.
        disk: PathBuf,
        /// Where; made if it is not there.
        at: PathBuf,
    },
    /// Run a program, wait for it, and say what it wrote.
    Run {
        /// Its path and arguments.
        words: Vec<String>,
    },
    /// Say what is in a file.
    Show {
        /// The file.
        file: PathBuf,
    },
    /// Write pages of a raw disk, in a random order.
    Write(Pages),
    /// Read pages of a raw disk, in a random order, and compare them.
    Read(Pages),
    /// Read all files below a directory, in a random order, in pieces.
    ReadFiles {
        /// The directory.
        top: PathBuf,
        /// Bytes of a piece.
        piece: usize,
        /// Only so many pieces, from random places; all, in order, if 0.
        random: usize,
        /// From which the order follows.
        seed: u64,
    },
    /// Look for all files below a directory, without reading them: what the file system says of them
    /// is in memory then.
    ListFiles {
        /// The directory.
        top: PathBuf,
    },
    /// Have the kernel reclaim what it has cached for those that read files, a little at a time.
    Evict,
    /// Turn the guest off.
    Off,
}

/// Pages of a raw disk.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Pages {
    /// The disk.
    pub disk: PathBuf,
    /// The first.
    pub first: u64,
    /// How many there are.
    pub pages: u64,
    /// How many are read or written.
    pub count: u64,
    /// Requests at a time.
    pub depth: usize,
    /// From which the order follows.
    pub seed: u64,
    /// Meanwhile the as many pages behind them are written, 32 at a time, without end.
    pub beside_writes: bool,
}

/// What came of an order.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Answer {
    /// What went wrong.
    pub error: Option<String>,
    /// What single requests took.
    pub times: Histogram,
    /// From the first to the last.
    pub nanoseconds: u64,
    /// Requests, or pieces of files.
    pub count: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Of the writes beside them.
    pub written: u64,
    /// What a program wrote, or what is in a file.
    pub said: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn orders_and_answers_are_lines() {
        let order = Order::Read(Pages {
            disk: "/dev/tmem0".into(),
            first: 0,
            pages: 16,
            count: 32,
            depth: 1,
            seed: 7,
            beside_writes: true,
        });
        let line = serde_json::to_string(&order).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);

        let mut answer = Answer {
            count: 2,
            said: "two\nlines\n".into(),
            ..Answer::default()
        };
        answer.times.add(Duration::from_micros(3));
        answer.times.add(Duration::from_micros(70));
        let line = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answer);
    }
}
