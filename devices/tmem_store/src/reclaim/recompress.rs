// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Cold pages made smaller, within a part of a CPU.

use std::time::{Duration, Instant};

use super::cleaner::{Cleaner, How};
use super::{Effort, Member, Reclaimer};
use crate::config::{Compression, Recompression};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::tier::PIECE;

/// Room within quota and limit for pages to be recompressed: it may take a little more
/// than it gives back, because heads end somewhere in a piece.
const ROOM: u64 = 4 * PIECE as u64;

/// How cold pages are recompressed, and who does it.
#[derive(Debug, Default)]
pub(crate) struct Recompressor {
    setting: Mutex<Recompression>,
    /// Of one at a time, which also has the memory that this needs for a while.
    cleaner: Mutex<Cleaner>,
}

impl Recompressor {
    pub(crate) fn setting(&self) -> MutexGuard<'_, Recompression> {
        let setting = self.setting.lock();
        setting.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Recompresses the pages of a segment that were not used for long, and returns how many it
    /// looked at.
    fn recompress(&self, cleaner: &mut Cleaner, after: Duration) -> u64 {
        let budget = &self.budget;
        let after = match budget.compression() {
            Compression::Auto => after,
            Compression::Zstd => Duration::ZERO,
            Compression::Lz4 | Compression::None => return 0,
        };
        let arena = budget.arena();
        let age = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        // Not charged meanwhile: puts come first.
        if budget.charge(ROOM).is_err() {
            return 0;
        }
        budget.credit(ROOM);
        budget.credit_some(budget.log.close_unused(arena, age));
        let Some(victim) = budget.log.cold(arena, age) else {
            return 0;
        };
        let start = Instant::now();
        let effort = &mut Effort::tidying();
        let done = self.evacuate(cleaner, victim, How::Smaller, effort, true);
        let time = u64::try_from(start.elapsed().as_micros()).unwrap_or(0);
        budget.counters.recompression_microseconds.add(time);
        done.pages
    }
}

impl Reclaimer {
    /// Recompresses cold pages of a segment, and returns how many it looked at.
    pub(crate) fn recompress_some(&self) -> u64 {
        let Recompression { after, cpu_percent } = *self.recompressor.setting();
        if cpu_percent == 0 {
            return 0;
        }
        let Ok(mut cleaner) = self.recompressor.cleaner.try_lock() else {
            return 0;
        };
        let mut members = self.each_member();
        members
            .find_map(|member| match member.recompress(&mut cleaner, after) {
                0 => None,
                pages => Some(pages),
            })
            .unwrap_or(0)
    }
}
