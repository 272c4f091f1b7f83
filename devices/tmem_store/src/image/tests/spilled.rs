// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The store ends after any of its writes, while pages are in a spill area.

use super::cuts::Memory;
use super::*;
use crate::area::{Area, SegmentKey, SpillArea};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What is done, and how often pages are demoted meanwhile.
#[derive(Clone, Debug)]
enum Step {
    Op(Op),
    Demote,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![9 => op().prop_map(Step::Op), 1 => Just(Step::Demote)]
}

/// The area as the next store finds it, while the one that writes to it goes on. What the next store
/// makes of it is not seen by that one, as in truth it is no more.
#[derive(Debug)]
pub(super) struct Found {
    area: Arc<SpillArea>,
    identity: AtomicU64,
}

impl Found {
    pub(super) fn new(area: &Arc<SpillArea>) -> Self {
        Self {
            area: area.clone(),
            identity: area.identity().into(),
        }
    }
}

impl Area for Found {
    fn name(&self) -> String {
        self.area.name()
    }

    fn identity(&self) -> u64 {
        self.identity.load(Relaxed)
    }

    fn segments(&self) -> u32 {
        self.area.segments()
    }

    fn align(&self) -> usize {
        self.area.align()
    }

    fn renew(&self) -> io::Result<()> {
        self.identity.fetch_add(1, Relaxed);
        Ok(())
    }

    fn read(
        &self,
        segment: SegmentKey,
        offset: usize,
        bytes: &mut [u8],
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        self.area.read(segment, offset, bytes, go_on)
    }

    fn write(&self, segment: SegmentKey, _: &[u8]) -> io::Result<()> {
        panic!("{segment:?} is written by a store that only looks");
    }
}

struct Spilling {
    _dir: tempfile::TempDir,
    area: Arc<SpillArea>,
    world: World,
    demoted: bool,
}

impl Spilling {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let area = SpillArea::open(&dir.path().join("area"), Some(8 << 20)).unwrap();
        let area = Arc::new(area);
        let config = StoreConfig {
            spill: Some(area.clone()),
            ..store_config(LIMIT)
        };
        let world = World::with(config);
        Self {
            _dir: dir,
            area,
            world,
            demoted: false,
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Op(op) => self.world.apply(op),
            Step::Demote => self.demoted |= self.world.store.demote_now(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Wherever pages are, what is made anew has those that were there.
    #[test]
    fn every_cut_is_a_state_that_was_there(steps in prop::collection::vec(step(), 1..40)) {
        let mut spilling = Spilling::new();
        spilling.world.store.arena().journal().begin();
        let mut memory = Memory::default();
        for step in &steps {
            let before = spilling.world.pages.clone();
            spilling.apply(step);
            for note in spilling.world.notes() {
                memory.apply(&note);
                let found = store_config(LIMIT).with_spill(Found::new(&spilling.area));
                let (store, clients) = recovered_with(&memory.0, found).expect("believed");
                for (number, client) in (0..).zip(&clients) {
                    let client = client.as_ref().expect("believed");
                    check(client, number, [&before, &spilling.world.pages]);
                }
                check_end(&store, clients);
                let stats = store.stats();
                prop_assert_eq!(stats.spill_free_bytes, stats.spill_size_bytes);
            }
        }
        let mut found = vec![0; memory.0.len()];
        let file = spilling.world.store.page_memory();
        rustix::io::pread(file, &mut found, 0).unwrap();
        prop_assert!(found == memory.0);
    }

    /// Pages that are in the area stay what they are, whatever is done.
    #[test]
    fn spilled_pages_are_what_they_were(steps in prop::collection::vec(step(), 100..400)) {
        let mut spilling = Spilling::new();
        for step in &steps {
            spilling.apply(step);
        }
        let pages = &spilling.world.pages;
        for (number, client) in (0..).zip(&spilling.world.clients) {
            check(client, number, [pages, pages]);
        }
        let clients = spilling.world.clients.drain(..).map(Some).collect();
        check_end(&spilling.world.store, clients);
    }
}

#[test]
fn cuts_were_made_while_pages_were_spilled() {
    let mut spilling = Spilling::new();
    for index in 0..60 {
        spilling.apply(&Step::Op(Op::Put((0, 0, 0, index), index * 4 + 1)));
    }
    spilling.apply(&Step::Op(Op::Compress(100)));
    spilling.apply(&Step::Demote);
    assert!(spilling.demoted);
    let stats = spilling.world.store.stats();
    assert!(stats.spilled_pages > 0, "{stats:?}");
}
