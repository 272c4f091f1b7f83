// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Load for a mounted file system.
//!
//! Each thread has a directory of files that nobody else touches, so what they
//! hold is known at every moment; what the file system does beside, in its
//! journal and trees, it does for all of them.

mod choice;
pub(crate) mod map;
mod operations;
mod owned;
#[cfg(test)]
mod tests;

use crate::control;
use crate::control::Member;
use crate::control::Orders;
use crate::report::Counters;
use anyhow::Context;
use anyhow::Result;
use operations::Thread;
use std::path::PathBuf;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory of the file system; what is in it from an earlier run is
    /// removed.
    pub directory: PathBuf,
    /// From which everything follows.
    pub seed: u32,
    /// For how long.
    pub seconds: u64,
    /// All files together are at most this large, in MiB.
    pub size_mib: u64,
    /// Threads.
    pub threads: u32,
    /// Whether the machine's caches may be dropped.
    pub drop_caches: bool,
}

/// Runs the load; ends the process when a byte is wrong.
///
/// # Errors
/// The directory cannot be used.
pub fn run(options: &Options, orders: &Orders) -> Result<()> {
    let counters = Counters::default();
    let mut members: Vec<Box<dyn Member + Send + '_>> = Vec::new();
    for number in 0..options.threads {
        members.push(Box::new(Thread::new(options, number, &counters)?));
    }
    let between = || {
        rustix::fs::sync();
        if options.drop_caches {
            control::drop_caches().context("cannot drop the caches")?;
        }
        Ok(())
    };
    let (seed, seconds) = (options.seed, options.seconds);
    control::run(members, orders, seed, seconds, &counters, &between)
}
