// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where each slot of a pattern is: in which pool of which client.

/// Neighbours that are freed together, in the same pool of the same client.
pub(super) const CLUSTER: usize = 8;

/// How slots are dealt to pools and clients: one cluster to each in turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pools: usize,
    clients: usize,
    slots: usize,
}

/// The handle of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) client: usize,
    pub(super) pool: usize,
    pub(super) index: u64,
}

impl Layout {
    /// With `pools` pools in each of `clients` clients and up to `slots` slots, the
    /// same number in each pool.
    pub(super) fn new(slots: usize, pools: usize, clients: usize) -> Self {
        let unit = CLUSTER * pools * clients;
        Self {
            pools,
            clients,
            slots: slots / unit * unit,
        }
    }

    /// Slots in all.
    pub(super) fn slots(self) -> usize {
        self.slots
    }

    /// Slots in all pools of one number.
    pub(super) fn slots_of_pool(self) -> usize {
        self.slots / self.pools
    }

    /// The number of a slot's pool, which is the same for each client.
    pub(super) fn pool(self, slot: usize) -> usize {
        slot / CLUSTER % self.pools
    }

    /// The number of a slot among all of its pool's number, over all clients.
    pub(super) fn nth_of_pool(self, slot: usize) -> usize {
        slot / CLUSTER / self.pools * CLUSTER + slot % CLUSTER
    }

    /// The slot that is the `nth` of its pool's number.
    pub(super) fn slot(self, pool: usize, nth: usize) -> usize {
        (nth / CLUSTER * self.pools + pool) * CLUSTER + nth % CLUSTER
    }

    /// The handle of a slot.
    pub(super) fn place(self, slot: usize) -> Place {
        let cluster = slot / CLUSTER / self.pools;
        let index = cluster / self.clients * CLUSTER + slot % CLUSTER;
        Place {
            client: cluster % self.clients,
            pool: self.pool(slot),
            index: index as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_slot_has_a_handle_of_its_own_and_each_pool_as_many() {
        for (pools, clients) in [(1, 1), (2, 1), (1, 8), (2, 8), (3, 5)] {
            let layout = Layout::new(5000, pools, clients);
            assert!((4760..=5000).contains(&layout.slots()));
            let each = layout.slots() / pools / clients;
            let all = (0..layout.slots()).map(|slot| layout.place(slot));
            let handles: BTreeSet<_> = all
                .map(|place| (place.client, place.pool, place.index))
                .collect();
            let expected = (0..clients).flat_map(|client| {
                (0..pools)
                    .flat_map(move |pool| (0..each as u64).map(move |index| (client, pool, index)))
            });
            assert!(handles.into_iter().eq(expected));
        }
    }

    #[test]
    fn neighbours_of_a_cluster_stay_together() {
        let layout = Layout::new(4096, 2, 8);
        for first in (0..layout.slots()).step_by(CLUSTER) {
            let start = layout.place(first);
            for slot in first..first + CLUSTER {
                let index = start.index + (slot - first) as u64;
                assert_eq!(layout.place(slot), Place { index, ..start });
            }
        }
    }

    #[test]
    fn slots_of_a_pool_are_numbered_in_order() {
        let layout = Layout::new(256, 2, 2);
        assert_eq!(layout.slots_of_pool(), 128);
        for pool in 0..2 {
            let slots = (0..layout.slots()).filter(|slot| layout.pool(*slot) == pool);
            assert!(
                slots
                    .clone()
                    .map(|slot| layout.nth_of_pool(slot))
                    .eq(0..128)
            );
            assert!((0..128).map(|nth| layout.slot(pool, nth)).eq(slots));
        }
    }
}
