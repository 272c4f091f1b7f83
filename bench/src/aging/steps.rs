// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is done to the slots of a pattern, step by step. It follows from the layout
//! and a seed alone, so that every peer, and every build of the store, ages alike.

use crate::aging::layout::CLUSTER;
use crate::aging::layout::Layout;
use fastrand::Rng;
use std::collections::BTreeSet;

/// Clusters that are freed, in percent.
const CLUSTERS_FREED: usize = 40;

/// Of the slots that have a page, those that are freed one by one, in percent.
const SLOTS_FREED: usize = 70;

/// What is done to one slot. Page `n` is what slot `n` is filled with first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Put { slot: usize, page: usize },
    Free { slot: usize },
}

/// What is done before it is measured again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) operations: Vec<Operation>,
}

/// All steps, in order.
pub(super) fn steps(layout: Layout, seed: u64) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let mut live = BTreeSet::new();
    let all = [
        ("fill in order", fill(layout)),
        (
            "free 40 % in clusters of 8",
            free_clusters(layout, &mut rng),
        ),
        ("put again at random", put_again(layout, &mut rng)),
    ];
    let mut steps = Vec::new();
    for (name, operations) in all {
        for operation in &operations {
            match *operation {
                Operation::Put { slot, .. } => live.insert(slot),
                Operation::Free { slot } => live.remove(&slot),
            };
        }
        steps.push(Step { name, operations });
    }
    steps.push(Step {
        name: "free 70 % one by one",
        operations: free_singly(live.into_iter().collect(), &mut rng),
    });
    steps
}

fn fill(layout: Layout) -> Vec<Operation> {
    let slots = 0..layout.slots();
    slots
        .map(|slot| Operation::Put { slot, page: slot })
        .collect()
}

fn free_clusters(layout: Layout, rng: &mut Rng) -> Vec<Operation> {
    let mut clusters: Vec<_> = (0..layout.slots()).step_by(CLUSTER).collect();
    rng.shuffle(&mut clusters);
    clusters.truncate(clusters.len() * CLUSTERS_FREED / 100);
    let slots = clusters.iter().flat_map(|first| *first..first + CLUSTER);
    slots.map(|slot| Operation::Free { slot }).collect()
}

/// Puts as many pages as were freed, each to any slot: some have a page, which is
/// replaced, and some of those that were freed stay free.
fn put_again(layout: Layout, rng: &mut Rng) -> Vec<Operation> {
    let count = layout.slots() / CLUSTER * CLUSTERS_FREED / 100 * CLUSTER;
    let put = |_| {
        let slot = rng.usize(0..layout.slots());
        let nth = rng.usize(0..layout.slots_of_pool());
        let page = layout.slot(layout.pool(slot), nth);
        Operation::Put { slot, page }
    };
    (0..count).map(put).collect()
}

fn free_singly(mut live: Vec<usize>, rng: &mut Rng) -> Vec<Operation> {
    rng.shuffle(&mut live);
    live.truncate(live.len() * SLOTS_FREED / 100);
    let slots = live.into_iter();
    slots.map(|slot| Operation::Free { slot }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const LAYOUTS: [(usize, usize); 4] = [(1, 1), (2, 1), (1, 8), (2, 8)];

    /// What each slot has after each step; fails if a step frees what is not there.
    fn replay(steps: &[Step]) -> Vec<BTreeMap<usize, usize>> {
        let mut kept = BTreeMap::new();
        let mut after = Vec::new();
        for step in steps {
            for operation in &step.operations {
                match *operation {
                    Operation::Put { slot, page } => {
                        kept.insert(slot, page);
                    }
                    Operation::Free { slot } => assert!(kept.remove(&slot).is_some()),
                }
            }
            after.push(kept.clone());
        }
        after
    }

    #[test]
    fn a_seed_gives_the_same_steps_and_another_seed_gives_others() {
        for (pools, clients) in LAYOUTS {
            let layout = Layout::new(2000, pools, clients);
            let once = steps(layout, 7);
            assert_eq!(once, steps(layout, 7));
            let other = steps(layout, 8);
            assert_eq!(once[0], other[0], "the first is in order");
            for (one, other) in once.iter().zip(&other).skip(1) {
                assert_ne!(one.operations, other.operations, "{}", one.name);
            }
        }
    }

    #[test]
    fn each_step_leaves_the_number_of_pages_that_it_says() {
        for (pools, clients) in LAYOUTS {
            let layout = Layout::new(20_000, pools, clients);
            let slots = layout.slots();
            let steps = steps(layout, 3);
            let counts: Vec<_> = steps.iter().map(|step| step.operations.len()).collect();
            let freed = slots / CLUSTER * 40 / 100 * CLUSTER;
            let after = replay(&steps);
            let live: Vec<_> = after.iter().map(BTreeMap::len).collect();
            let [filled, thinned, again, last] = live.as_slice() else {
                panic!("{} steps", live.len());
            };
            assert_eq!((*filled, *thinned), (slots, slots - freed));
            // A free slot is put to again with a probability of 1 - 1/e^0.4, or 33 %.
            let refilled = (again - thinned) * 100 / freed;
            assert!((31..=35).contains(&refilled), "{refilled} %");
            assert_eq!(*last, again - again * 70 / 100);
            assert_eq!(counts, [slots, freed, freed, again - last]);
        }
    }

    #[test]
    fn clusters_are_freed_whole() {
        let layout = Layout::new(2000, 2, 4);
        let kept = &replay(&steps(layout, 3))[1];
        for first in (0..layout.slots()).step_by(CLUSTER) {
            let cluster = kept.range(first..first + CLUSTER).count();
            assert!(cluster == 0 || cluster == CLUSTER, "{first}: {cluster}");
        }
    }

    #[test]
    fn a_slot_is_only_filled_with_pages_of_its_pool() {
        let layout = Layout::new(2000, 2, 4);
        for step in steps(layout, 3) {
            for operation in step.operations {
                if let Operation::Put { slot, page } = operation {
                    assert_eq!(layout.pool(slot), layout.pool(page));
                    assert!(page < layout.slots());
                }
            }
        }
    }
}
