// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What this host has left to give: what a scheduler asks before it places a virtual
//! machine here.

use std::sync::Arc;

use tmem_store::ClientStats;

use super::Api;
use crate::metrics::freeable;
use crate::registry::Share;

/// Bytes of the store, in the order in which they can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Freeable {
    /// Most that the store holds.
    pub(super) memory_limit_bytes: u64,
    /// What it holds now.
    pub(super) held_bytes: u64,
    /// What it may still take.
    pub(super) free_bytes: u64,
    /// About as much is held for ephemeral pages, and comes back when they are evicted.
    pub(super) freeable_bytes: u64,
    /// What the quotas of all virtual machines add up to; of one that holds more, that.
    pub(super) promised_bytes: u64,
    /// What can be promised to others, and kept.
    pub(super) promisable_bytes: u64,
}

impl Freeable {
    pub(super) fn of(api: &Api) -> Self {
        let store = api.store_stats();
        let machines = api.registry.list();
        let shares = api.registry.all_shares();
        let clients = machines
            .iter()
            .map(|it| it.machine().device().client().stats())
            .chain(shares.iter().map(unpromised));
        let spill = store.spill_size_bytes;
        Self::add_up(store.memory_limit_bytes, store.held_bytes, spill, clients)
    }

    fn add_up(
        limit: u64,
        held: u64,
        spill: u64,
        clients: impl Iterator<Item = ClientStats>,
    ) -> Self {
        let mut all = Self {
            memory_limit_bytes: limit,
            held_bytes: held,
            free_bytes: limit.saturating_sub(held),
            ..Self::default()
        };
        for client in clients {
            let freeable = freeable(&client);
            let promised = client
                .quota_bytes
                .max(client.held_bytes.saturating_sub(freeable));
            all.freeable_bytes = all.freeable_bytes.saturating_add(freeable);
            all.promised_bytes = all.promised_bytes.saturating_add(promised);
        }
        // What memory has no room for is spilled.
        let room = limit.saturating_add(spill);
        all.promisable_bytes = room.saturating_sub(all.promised_bytes);
        all
    }
}

/// A share, which is promised nothing: it has what others leave.
fn unpromised(share: &Arc<Share>) -> ClientStats {
    let mut stats = share.stats();
    stats.quota_bytes = 0;
    stats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus::tests::device;

    fn client(quota: u64, held: u64, persistent: u64, ephemeral: u64) -> ClientStats {
        let mut stats = device().client().stats();
        stats.quota_bytes = quota;
        stats.held_bytes = held;
        stats.persistent_pages = persistent;
        stats.ephemeral_pages = ephemeral;
        stats
    }

    #[test]
    fn what_can_be_promised_is_what_no_quota_has() {
        let clients = [client(100, 40, 1, 3), client(50, 80, 8, 0)];
        let all = Freeable::add_up(1000, 120, 0, clients.into_iter());
        let expected = Freeable {
            memory_limit_bytes: 1000,
            held_bytes: 120,
            free_bytes: 880,
            freeable_bytes: 30,
            promised_bytes: 180,
            promisable_bytes: 820,
        };
        assert_eq!(all, expected);
    }

    #[test]
    fn more_than_there_is_may_be_promised() {
        let clients = [client(u64::MAX, 0, 0, 0), client(u64::MAX, 0, 0, 0)];
        let all = Freeable::add_up(1000, 0, 500, clients.into_iter());
        assert_eq!((all.promised_bytes, all.promisable_bytes), (u64::MAX, 0));
        let client = client(1200, 0, 0, 0);
        let all = Freeable::add_up(1000, 0, 500, [client].into_iter());
        assert_eq!(all.promisable_bytes, 300);
    }
}
