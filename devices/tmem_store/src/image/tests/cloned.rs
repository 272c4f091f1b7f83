// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clients that are cloned, and clones of clones: each has what it would have alone, at any time and
//! after any end of the store.

use super::cuts::Memory;
use super::spilled::Found;
use super::*;
use crate::area::SpillArea;
use crate::base::CloneError;
use crate::sync::Arc;

/// By what the next store knows a client: its identity, and those of its bases.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known(Identity, Vec<Identity>);

#[derive(Clone, Debug)]
enum Step {
    Op(Op),
    /// The second has what the first has.
    Clone(u8, u8),
    /// The first has a base, and goes on.
    Base(u8),
    Sweep,
    Demote,
    Evict(u8),
    /// What it has goes through a save and comes back.
    Save(u8),
    /// The next store takes over.
    Restart,
}

const MANY: u8 = 3;

/// Memory for all that they and their bases can have.
const ROOM: u64 = 4 << 20;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => op_of(MANY).prop_map(Step::Op),
        2 => (0..MANY, 0..MANY).prop_map(|(from, to)| Step::Clone(from, to)),
        1 => (0..MANY).prop_map(Step::Base),
        2 => Just(Step::Sweep),
        1 => Just(Step::Demote),
        1 => (0..MANY).prop_map(Step::Evict),
        1 => (0..MANY).prop_map(Step::Save),
        1 => Just(Step::Restart),
    ]
}

struct Cloning {
    _dir: tempfile::TempDir,
    area: Arc<SpillArea>,
    world: World,
    known: Vec<Known>,
    /// What was known in between, while one was cloned.
    noted: Option<(usize, Known)>,
    shared: bool,
    swept: bool,
}

impl Cloning {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let area = SpillArea::open(&dir.path().join("area"), Some(8 << 20)).unwrap();
        let area = Arc::new(area);
        let mut world = World::with(StoreConfig {
            spill: Some(area.clone()),
            ..store_config(ROOM)
        });
        while world.clients.len() < MANY.into() {
            let number = u8::try_from(world.clients.len()).unwrap();
            world.add(number);
        }
        let known = world.clients.iter().map(Self::known).collect();
        Self {
            _dir: dir,
            area,
            world,
            known,
            noted: None,
            shared: false,
            swept: false,
        }
    }

    fn known(client: &Client) -> Known {
        let bases = client.bases();
        let bases = bases.iter().map(|base| base.identity()).collect();
        Known(client.identity(), bases)
    }

    fn pages_of(&self, of: u8) -> BTreeMap<Handle, u64> {
        let all = self.world.pages.iter();
        all.filter(|(at, _)| at.0 == of)
            .map(|(at, seed)| (*at, *seed))
            .collect()
    }

    fn base(&mut self, of: u8) -> Result<Arc<Base>, CloneError> {
        let mut noted = None;
        let client = &self.world.clients[usize::from(of)];
        let base = client.to_base(|identity, bases| {
            noted = Some((of.into(), Known(identity, bases.to_vec())));
            true
        });
        if base.is_ok() {
            self.noted = noted;
        }
        self.known[usize::from(of)] = Self::known(client);
        base
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Op(op) => self.world.apply(op),
            Step::Base(of) => {
                let _ = self.base(*of);
            }
            Step::Clone(from, to) if from != to => {
                let Ok(base) = self.base(*from) else {
                    return;
                };
                let client = &self.world.clients[usize::from(*to)];
                for (id, _) in client.pools() {
                    client.destroy_pool(id);
                }
                self.world.pages.retain(|at, _| at.0 != *to);
                if client.go_on_over(&base).is_ok() {
                    self.shared |= client.stats().shared_pages > 0;
                    let had = self.pages_of(*from);
                    let has = had
                        .iter()
                        .map(|(at, seed)| ((*to, at.1, at.2, at.3), *seed));
                    self.world.pages.extend(has);
                }
                self.known[usize::from(*to)] = Self::known(client);
            }
            Step::Clone(..) => {}
            // What is spilled stays in the area of this store.
            Step::Restart if self.world.store.stats().spilled_pages > 0 => {}
            Step::Restart => self.restart(),
            Step::Sweep => {
                while self.world.store.sweep_some() {
                    self.swept = true;
                }
                while self.world.store.clean_some() {}
            }
            Step::Demote => {
                self.world.store.demote_now();
            }
            Step::Evict(of) => {
                let member = self.world.clients[usize::from(*of)].member();
                member.evict(&mut crate::reclaim::Effort::run(), true);
            }
            Step::Save(of) => {
                let client = &self.world.clients[usize::from(*of)];
                let mut save = client.save();
                let saved: Vec<_> = save.by_ref().collect();
                let before = client.stats();
                assert_eq!(save.lost(), 0);
                // What it says of itself is what it has.
                let exact = save.pages() - before.persistent_pages;
                assert!(
                    exact <= before.ephemeral_pages,
                    "{} {before:?}",
                    save.pages()
                );
                for (count, segment) in (1..).zip(&saved) {
                    let restored = client.restore(segment, count).unwrap();
                    assert_eq!(restored.dropped, 0);
                }
            }
        }
    }

    /// Has the next store take over, by what is noted.
    fn restart(&mut self) {
        let left = memory_of(&self.world.store);
        self.world.clients.clear();
        let mut recovery = Store::recover(unused(file(&left)), store_config(ROOM)).unwrap();
        recovery.plan = PLAN;
        self.world.clients = all_of(&mut recovery, &self.known);
        self.world.store = recovery.store().clone();
    }

    /// That all clients have what they should, and no more.
    fn check(&self) {
        let pages = &self.world.pages;
        for (number, client) in (0..).zip(&self.world.clients) {
            check_pages(client, number, [pages, pages]);
        }
        let stats = self.world.store.stats();
        let held: u64 = self.world.clients.iter().map(held_alone).sum();
        assert!(held <= stats.held_bytes + stats.spilled_bytes);
    }

    fn end(mut self) {
        let clients: Vec<_> = self.world.clients.drain(..).collect();
        let last = self.world.store.add_client(client_config()).unwrap();
        drop(clients);
        // Nothing is set aside any more, either.
        assert_eq!(last.member().budget.committed(), [0, 0]);
        drop(last);
        assert_eq!(self.world.store.held_bytes(), 0);
        let stats = self.world.store.stats();
        assert_eq!((stats.clients, stats.mapped_bytes), (0, 0), "{stats:?}");
        assert_eq!(stats.spill_free_bytes, stats.spill_size_bytes);
    }
}

/// All page memory, as the next store finds it.
fn memory_of(store: &Store) -> Vec<u8> {
    let file = store.page_memory();
    let len = rustix::fs::fstat(file).unwrap().st_size;
    let mut found = vec![0; usize::try_from(len).unwrap()];
    rustix::io::pread(file, &mut found, 0).unwrap();
    found
}

/// What a client holds that no other has.
fn held_alone(client: &Client) -> u64 {
    let stats = client.stats();
    stats.held_bytes - stats.shared_bytes
}

/// A client after a restart.
fn client_of(recovery: &mut Recovery, known: &Known) -> Client {
    let Known(identity, bases) = known;
    let mut below = None;
    for base in bases.iter().rev() {
        below = Some(recovery.base(*base, below.as_ref()).unwrap());
    }
    let client = recovery.client_over(*identity, client_config(), below.as_ref());
    client.unwrap()
}

/// The same for all of them: bases are there once.
fn all_of(recovery: &mut Recovery, known: &[Known]) -> Vec<Client> {
    let mut bases: BTreeMap<Identity, Arc<Base>> = BTreeMap::new();
    known
        .iter()
        .map(|Known(identity, of)| {
            let mut below = None;
            for base in of.iter().rev() {
                let there = bases.get(base).cloned();
                let there = there.unwrap_or_else(|| recovery.base(*base, below.as_ref()).unwrap());
                bases.insert(*base, there.clone());
                below = Some(there);
            }
            let client = recovery.client_over(*identity, client_config(), below.as_ref());
            // Others may see what this one has hidden.
            assert!(!recovery.store().sweep_some());
            client.unwrap()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// Each client has what it would have if pages had been copied.
    #[test]
    fn clones_have_what_copies_would_have(steps in prop::collection::vec(step(), 50..300)) {
        let mut cloning = Cloning::new();
        for step in &steps {
            cloning.apply(step);
            if !matches!(step, Step::Op(_)) {
                cloning.check();
            }
        }
        cloning.check();
        cloning.end();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Wherever the store ends, the next one has what was there before a step or after it, by what is noted.
    #[test]
    fn every_cut_is_a_state_that_was_there(steps in prop::collection::vec(step(), 1..50)) {
        each_cut(&mut Cloning::new(), &steps);
    }
}

/// Does `steps`, and has a store begin after each of the writes that they make.
fn each_cut(cloning: &mut Cloning, steps: &[Step]) {
    cloning.world.store.arena().journal().begin();
    let mut memory = Memory::default();
    for step in steps {
        if matches!(step, Step::Demote | Step::Restart) {
            continue;
        }
        let before = (cloning.world.pages.clone(), cloning.known.clone());
        cloning.apply(step);
        let noted = cloning.noted.take();
        let notes = cloning.world.notes();
        let last = notes.len().saturating_sub(1);
        for (nth, note) in notes.into_iter().enumerate() {
            memory.apply(&note);
            let mut known = before.1.clone();
            if let Some((of, noted)) = &noted {
                known[*of] = noted.clone();
            }
            // A clone is noted once it has all.
            let known = if nth == last { &cloning.known } else { &known };
            let recovery = Store::recover(unused(file(&memory.0)), store_config(ROOM));
            let mut recovery = recovery.unwrap();
            recovery.plan = PLAN;
            let clients = all_of(&mut recovery, known);
            drop(recovery);
            for (number, client) in (0..).zip(&clients) {
                let is_target = matches!(step, Step::Clone(_, to) if *to == number);
                // Until it is noted, nothing was promised to it.
                if !is_target || nth == last {
                    check_pages(client, number, [&before.0, &cloning.world.pages]);
                }
                check_evicted(client, number);
            }
        }
    }
}

/// Pages of a client in ephemeral pools, after all that it can evict itself is evicted, are those that were
/// there before.
fn check_evicted(client: &Client, number: u8) {
    let all = || {
        let handles =
            (0..3).flat_map(|object| (0..80).map(move |index| (number, 1, object, index)));
        handles.map(|at| get(client, at)).collect::<Vec<_>>()
    };
    let before = all();
    let member = client.member();
    while member.evict(&mut crate::reclaim::Effort::run(), true) > 0 {}
    let same = |(before, after): (&Option<Page>, &Option<Page>)| after.is_none() || before == after;
    assert!(before.iter().zip(&all()).all(same));
}

/// As [`check`], of a client that may share pages.
fn check_pages<const N: usize>(client: &Client, number: u8, states: [&BTreeMap<Handle, u64>; N]) {
    for pool in 0..3 {
        for object in 0..3 {
            for index in 0..80 {
                let at = (number, pool, object, index);
                let found = get(client, at);
                let allowed = states.map(|pages| pages.get(&at).copied());
                let right = allowed.iter().any(|seed| found == seed.map(page));
                let evicted = found.is_none() && KINDS[pool as usize] == PoolKind::Ephemeral;
                assert!(
                    right || evicted,
                    "{at:?}: {allowed:?} found {}",
                    found.is_some()
                );
            }
        }
    }
}

#[test]
fn what_all_have_hidden_goes_and_what_one_sees_stays() {
    let mut cloning = Cloning::new();
    for index in 0..60 {
        for object in 0..3 {
            cloning.apply(&Step::Op(Op::Put((0, 0, object, index), index * 4 + 1)));
        }
    }
    cloning.apply(&Step::Op(Op::Compress(1000)));
    let alone = cloning.world.store.held_bytes();
    cloning.apply(&Step::Clone(0, 1));
    cloning.apply(&Step::Clone(0, 2));
    // Three have them, and little more is held than before.
    let shared = cloning.world.store.held_bytes();
    assert!(shared < alone + alone / 4, "{shared} after {alone}");
    let stats: Vec<_> = cloning.world.clients.iter().map(Client::stats).collect();
    for stats in &stats {
        assert_eq!(
            (stats.shared_pages, stats.persistent_pages),
            (180, 180),
            "{stats:?}"
        );
    }
    assert!(!cloning.world.store.sweep_some());
    for of in 0..2 {
        for object in 0..3 {
            cloning.apply(&Step::Op(Op::FlushObject((of, 0, object, 0))));
        }
    }
    // The third has all of them.
    assert!(!cloning.world.store.sweep_some());
    cloning.check();
    for object in 0..2 {
        cloning.apply(&Step::Op(Op::FlushObject((2, 0, object, 0))));
    }
    cloning.apply(&Step::Sweep);
    cloning.check();
    assert!(cloning.swept);
    let left = cloning.world.store.held_bytes();
    assert!(
        left < alone * 3 / 4,
        "{left} of {alone} bytes are left for a third of the pages"
    );
    for of in 0..3 {
        cloning.apply(&Step::Op(Op::Destroy(of, 0)));
    }
    cloning.apply(&Step::Sweep);
    let left = cloning.world.store.held_bytes();
    assert!(
        left < alone / 3,
        "{left} of {alone} bytes are left for no pages"
    );
    cloning.end();
}

#[test]
fn what_is_evicted_does_not_uncover_what_was_below() {
    let put = |of, pool, seed| Step::Op(Op::Put((of, pool, 0, 5), seed));
    for pool in 0..2 {
        let steps = [
            put(0, pool, 1),
            Step::Clone(0, 1),
            put(0, pool, 2),
            put(1, pool, 3),
            Step::Base(1),
            put(1, pool, 5),
            Step::Op(Op::Take((0, pool, 0, 5))),
            Step::Op(Op::Flush((1, pool, 0, 5), 1)),
        ];
        let mut cloning = Cloning::new();
        each_cut(&mut cloning, &steps);
        cloning.check();
        cloning.end();
    }
}

#[test]
fn a_base_is_made_anew_only_for_what_has_changed() {
    let mut cloning = Cloning::new();
    cloning.apply(&Step::Op(Op::Put((0, 0, 0, 1), 1)));
    cloning.apply(&Step::Clone(0, 1));
    let base = cloning.known[0].1.clone();
    cloning.apply(&Step::Clone(0, 2));
    assert_eq!(cloning.known[0].1, base);
    assert_eq!(cloning.known[2].1, base);
    // A clone of a clone that has changed nothing.
    cloning.apply(&Step::Clone(2, 1));
    assert_eq!(cloning.known[1].1, base);
    cloning.apply(&Step::Op(Op::Put((0, 0, 0, 2), 1)));
    cloning.apply(&Step::Clone(0, 1));
    assert_eq!(cloning.known[0].1.len(), 2);
    for index in 3.. {
        cloning.apply(&Step::Op(Op::Put((0, 0, 0, index), 1)));
        match cloning.base(0) {
            Ok(_) => continue,
            Err(error) => {
                assert_eq!(error, CloneError::TooDeep(Client::MOST_BASES));
                break;
            }
        }
    }
    cloning.check();
    // A machine that begins anew is over nothing.
    for pool in 0..3 {
        cloning.apply(&Step::Op(Op::Destroy(0, pool)));
    }
    cloning.apply(&Step::Op(Op::Put((0, 0, 0, 1), 1)));
    cloning.apply(&Step::Clone(0, 1));
    assert_eq!(cloning.known[1].1.len(), 1);
    cloning.apply(&Step::Restart);
    cloning.check();
    cloning.end();
}

#[test]
fn a_clone_is_refused_what_its_quota_has_no_room_for() {
    let mut cloning = Cloning::new();
    for index in 0..60 {
        cloning.apply(&Step::Op(Op::Put((0, 0, 0, index), index * 4 + 1)));
    }
    let base = cloning.base(0).unwrap();
    let clone = &cloning.world.clients[1];
    clone.set_quota(60 * 4096);
    let refused = clone.go_on_over(&base).unwrap_err();
    assert!(matches!(refused, CloneError::Quota { bytes } if bytes > 60 * 4096));
    clone.set_quota(1 << 20);
    clone.go_on_over(&base).unwrap();
    // What it shares counts, until it is its own.
    let held = clone.stats().held_bytes;
    assert!(held > 60 * 4096, "{held}");
    for index in 0..60 {
        let put = clone
            .pool(0)
            .unwrap()
            .put(&object(0), index, &page(index * 4 + 5));
        assert!(put.result.is_ok() && put.prior_removed);
    }
    let stats = clone.stats();
    assert_eq!(
        (stats.shared_pages, stats.shared_bytes),
        (0, 0),
        "{stats:?}"
    );
    assert!(
        stats.held_bytes < held + held / 4,
        "{stats:?}, before {held}"
    );
}

#[test]
fn what_is_spilled_of_a_base_is_there_for_the_next_store() {
    let mut cloning = Cloning::new();
    for index in 0..60 {
        for object in 0..3 {
            cloning.apply(&Step::Op(Op::Put((0, 0, object, index), index * 4 + 1)));
        }
    }
    cloning.apply(&Step::Op(Op::Compress(1000)));
    cloning.apply(&Step::Clone(0, 1));
    cloning.apply(&Step::Op(Op::Put((1, 0, 0, 3), 77)));
    cloning.apply(&Step::Op(Op::Flush((0, 0, 1, 5), 7)));
    for _ in 0..8 {
        cloning.apply(&Step::Demote);
    }
    let spilled = cloning.world.store.stats().spilled_pages;
    assert!(spilled > 150, "{spilled}");
    let left = memory_of(&cloning.world.store);
    let config = store_config(ROOM).with_spill(Found::new(&cloning.area));
    let mut recovery = Store::recover(unused(file(&left)), config).unwrap();
    let clients = all_of(&mut recovery, &cloning.known);
    drop(recovery);
    for (number, client) in (0..).zip(&clients) {
        check_pages(client, number, [&cloning.world.pages]);
    }
}

#[test]
fn a_machine_and_its_clone_can_be_taken_over_one_by_one() {
    let mut cloning = Cloning::new();
    for index in 0..60 {
        cloning.apply(&Step::Op(Op::Put((0, 0, 0, index), index * 4 + 1)));
    }
    cloning.apply(&Step::Clone(0, 1));
    cloning.apply(&Step::Op(Op::Put((1, 0, 0, 3), 77)));
    cloning.apply(&Step::Op(Op::Flush((1, 0, 0, 5), 7)));
    let found = memory_of(&cloning.world.store);
    let mut recovery = Store::recover(unused(file(&found)), store_config(ROOM)).unwrap();
    let clone = client_of(&mut recovery, &cloning.known[1]);
    check_pages(&clone, 1, [&cloning.world.pages]);
    let stats = clone.stats();
    assert_eq!(stats.persistent_pages, 53 + 1 - 1, "{stats:?}");
    drop((clone, recovery));
}
