// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How much is measured. An emulated CPU takes half a minute to read files of
//! twice a small guest's memory, so what a run does is counted out.

use crate::guest::content::Sizes;
use crate::guest::limit::Limit;
use crate::guest::pieces::Amounts;
use crate::guest::session::Way;

/// A guest, and what it does.
pub(crate) struct One {
    pub(crate) way: Way,
    pub(crate) limit: Option<Limit>,
    pub(crate) amounts: Amounts,
}

/// All guests of a run, one after the other.
pub(crate) struct Plan {
    pub(crate) sizes: Sizes,
    pub(crate) sessions: Vec<One>,
}

impl Plan {
    /// What tells how good filters are, for guests of `memory_mib` MiB.
    pub(crate) fn full(memory_mib: u64) -> Self {
        let limited = Amounts {
            passes: 3,
            rounds: 2,
            rows: 5000,
            builds: 2,
        };
        let unlimited = Amounts {
            rounds: 1,
            // Most of a build is the guest's own time.
            builds: 0,
            ..limited
        };
        let limit = Some(Limit::CLOUD);
        let mut sessions = sessions(&Way::ALL, limit, limited);
        // How an eager filter differs is seen above.
        let ways = [Way::Disk, Way::Precache, Way::HostCache];
        sessions.extend(self::sessions(&ways, None, unlimited));
        Self {
            sizes: Sizes {
                files_mib: 2 * memory_mib,
                database_mib: memory_mib + memory_mib / 10,
            },
            sessions,
        }
    }

    /// The part of it that is about reads only, on the limited disk.
    pub(crate) fn reads(memory_mib: u64) -> Self {
        let mut plan = Self::full(memory_mib);
        plan.sessions.retain(|one| one.limit.is_some());
        for one in &mut plan.sessions {
            one.amounts.builds = 0;
        }
        plan
    }

    /// What tells that it works: everything once, on disks that are only larger
    /// than what is left of the memory for a page cache.
    pub(crate) fn quick(memory_mib: u64) -> Self {
        let amounts = Amounts {
            passes: 3,
            rounds: 1,
            rows: 2000,
            builds: 1,
        };
        Self {
            sizes: Sizes {
                files_mib: memory_mib * 3 / 4,
                database_mib: memory_mib * 3 / 4,
            },
            sessions: sessions(&Way::ALL, Some(Limit::CLOUD), amounts),
        }
    }
}

fn sessions(ways: &[Way], limit: Option<Limit>, amounts: Amounts) -> Vec<One> {
    let one = |way: &Way| One {
        way: *way,
        limit,
        amounts,
    };
    ways.iter().map(one).collect()
}
