// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that is backed ahead of deferred pages.

use super::Reclaimer;
use crate::tier::SEGMENT;

/// The part of limit or quota that may be ready for deferred pages.
const PART: u64 = 64;

/// Pages looked at before another pool may be more worthwhile.
const BATCH: u64 = 64;

/// Pages that are put in the time in which so many are compressed need no more memory than
/// is ready.
const SLICE: u64 = 16;

impl Reclaimer {
    /// Backs memory for deferred pages of each client that puts some, so that their puts
    /// need not; whether any was.
    fn prepare_some(&self) -> bool {
        let mut any = false;
        for member in self.each_member() {
            let budget = &member.budget;
            let (log, arena) = (&budget.log, budget.arena());
            let most = self.budget.limit().min(budget.quota()) / PART / SEGMENT as u64;
            for _ in 0..log.wants_ready(arena, most) {
                if budget.charge(SEGMENT as u64).is_err() {
                    break;
                }
                let back = log.prepare(arena);
                budget.credit_some(back);
                any |= back == 0;
            }
            budget.credit_some(log.unready_unwanted(arena));
        }
        any
    }

    /// As [`Reclaimer::compress_some`], and prepares for more to come meanwhile.
    pub(crate) fn prepare_and_compress(&self) -> bool {
        (0..BATCH / SLICE).fold(false, |any, _| {
            any | self.prepare_some() | (self.compress_some(SLICE) > 0)
        })
    }

    /// Whether any client has memory ready that may soon not be wanted any more.
    pub(crate) fn may_be_unready(&self) -> bool {
        let mut members = self.each_member();
        members.any(|member| member.budget.log.is_deferring())
    }
}
