// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The store ends after any of its writes.

use super::*;

/// Plays writes back.
#[derive(Default)]
pub(super) struct Memory(pub(super) Vec<u8>);

impl Memory {
    pub(super) fn apply(&mut self, note: &Note) {
        let Note::Write { at, bytes } = note else {
            return;
        };
        let end = at + bytes.len();
        if self.0.len() < end {
            self.0.resize(end.next_multiple_of(SEGMENT), 0);
        }
        self.0[*at..end].copy_from_slice(bytes);
    }

    /// Whether a note is that an entry which was dead is another one.
    fn is_put_in_place(&self, note: &Note) -> bool {
        let Note::Write { at, bytes } = note else {
            return false;
        };
        let (Some(old), Ok(new)) = (self.0.get(*at..at + 8), bytes.as_slice().try_into()) else {
            return false;
        };
        let state = |bytes: [u8; 8]| Word::decode(u64::from_le_bytes(bytes)).map(|it| it.state);
        let old = old.try_into().ok().and_then(state);
        old == Some(State::Dead) && state(new) == Some(State::Open)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// The store may end after any of its writes: what is made anew has exactly the
    /// pages that it had, but for the operation that was under way, of which it has
    /// the old or the new state of each page.
    #[test]
    fn every_cut_is_a_state_that_was_there(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new(LIMIT);
        world.store.arena().journal().begin();
        let mut memory = Memory::default();
        for op in &ops {
            let before = world.pages.clone();
            world.apply(op);
            for note in world.notes() {
                memory.apply(&note);
                let (store, clients) = recovered(&memory.0, LIMIT).expect("believed");
                for (number, client) in (0..).zip(&clients) {
                    let client = client.as_ref().expect("believed");
                    check(client, number, [&before, &world.pages]);
                }
                check_end(&store, clients);
            }
        }
        // What was recorded is all there is.
        let mut found = vec![0; memory.0.len()];
        let file = world.store.page_memory();
        rustix::io::pread(file, &mut found, 0).unwrap();
        prop_assert!(found == memory.0);
    }

    /// What was made anew goes on as before, and can be made anew once more.
    #[test]
    fn recovered_store_goes_on(
        first in prop::collection::vec(op(), 1..150),
        second in prop::collection::vec(op(), 1..150),
    ) {
        let mut world = World::new(LIMIT);
        for ops in [&first, &second] {
            for op in ops {
                world.apply(op);
            }
            let file = world.store.page_memory().try_clone_to_owned().unwrap();
            let mut recovery = Store::recover(unused(file), store_config(LIMIT)).unwrap();
            recovery.plan = PLAN;
            // The earlier one must do nothing more, also not at its end.
            world.clients.drain(..).for_each(std::mem::forget);
            let config = client_config;
            world.clients = (0..CLIENTS)
                .map(|client| recovery.client(identity(client), config()).unwrap())
                .collect();
            world.store = recovery.store().clone();
            prop_assert_eq!(recovery.identities().count(), 0);
            for (number, client) in (0..).zip(&world.clients) {
                check(client, number, [&world.pages, &world.pages]);
            }
        }
        let clients = world.clients.drain(..).map(Some).collect();
        check_end(&world.store, clients);
    }
}

/// As above, of a store that is nearly full: pages are put in the place of others.
#[test]
fn every_cut_of_what_is_overwritten_is_a_state_that_was_there() {
    const PAGES: u64 = 78;
    let mut world = World::new(LIMIT);
    for index in 0..PAGES {
        // None compresses: there are segments to which nothing is appended any more.
        world.apply(&Op::Put((0, 0, 0, index), index * 4 + 1));
    }
    world.apply(&Op::Compress(PAGES));
    let held = world.clients[0].stats().held_bytes;
    world.clients[0].set_quota(held + SEGMENT as u64 / 2);
    let mut memory = Memory(vec![0; 8 * SEGMENT]);
    let _ = rustix::io::pread(world.store.page_memory(), &mut memory.0, 0).unwrap();
    world.store.arena().journal().begin();
    let (mut filled, mut random) = (0, 1_u64);
    for _ in 0..150 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (index, seed) = ((random >> 33) % PAGES, random >> 40 & 1023);
        let before = world.pages.clone();
        // A put that finds no memory removes what was there first.
        let mut without = before.clone();
        without.remove(&(0, 0, 0, index));
        world.apply(&Op::Put((0, 0, 0, index), seed));
        for note in world.notes() {
            filled += u32::from(memory.is_put_in_place(&note));
            memory.apply(&note);
            let (store, clients) = recovered(&memory.0, LIMIT).expect("believed");
            let client = clients[0].as_ref().expect("believed");
            check(client, 0, [&before, &without, &world.pages]);
            check_end(&store, clients);
        }
    }
    assert!(
        filled > 10,
        "{filled} pages were put in the place of others"
    );
}

/// What a thread does to a page, between two places in the journal.
#[derive(Clone, Copy, Debug)]
struct Act {
    index: u64,
    /// The seed of a page that is put; `None`: a flush.
    put: Option<u64>,
    begin: usize,
    /// Where it had ended; `usize::MAX` if it had not by the cut.
    end: usize,
}

/// Threads put and flush a few pages, while others compress and move them. At any cut,
/// what is found of a page is what some operation made of it, and no operation on that page
/// began after that one had ended, and ended itself.
#[test]
fn cuts_while_threads_are_at_it_are_states_that_were_there() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

    const PAGES: u64 = 3;
    const ACTS: u64 = 1500;
    /// Memory is never short: a put that finds none removes what was there first.
    const ROOMY: u64 = 8 * LIMIT;
    let world = World::new(ROOMY);
    let pool = world.pool(0, 0);
    let journal = world.store.arena().journal();
    // Something to move.
    for index in 100..160 {
        let _ = pool.put(&object(0), index, &page(2 + index * 4));
    }
    let mut memory = Memory(vec![0; 8 * SEGMENT]);
    let _ = rustix::io::pread(world.store.page_memory(), &mut memory.0, 0).unwrap();
    journal.begin();
    let (ended, next) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let actors = [1_u64, 2, 3].map(|thread| {
            let (pool, next) = (&pool, &next);
            scope.spawn(move || {
                let mut random = thread;
                for _ in 0..ACTS {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(thread);
                    let act = next.fetch_add(1, Relaxed);
                    let (index, flushes) = (random >> 40 & 3, random >> 50 & 3 == 0);
                    let index = index % PAGES;
                    // Even marks begin an act, odd ones end it.
                    journal.mark((act << 10 | index << 2 | u64::from(flushes) << 1) << 1);
                    if flushes {
                        pool.flush(&object(0), index, 1);
                    } else {
                        assert_eq!(pool.put(&object(0), index, &page(act)).result, Ok(()));
                    }
                    journal.mark(act << 11 | 1);
                    // Segments fill up, so that the pages are moved.
                    let _ = pool.put(&object(0), 200 + act % 40, &page(act * 4 + 1));
                }
            })
        });
        let cleaner = scope.spawn(|| {
            while !ended.load(Relaxed) {
                world.store.compress_some(2);
                let member = world.clients[0].member();
                let _ = member.clean(&mut crate::reclaim::Effort::run(), true);
            }
        });
        for actor in actors {
            actor.join().unwrap();
        }
        ended.store(true, Relaxed);
        cleaner.join().unwrap();
    });

    let notes = journal.take();
    let mut acts: BTreeMap<u64, Act> = BTreeMap::new();
    for (at, note) in notes.iter().enumerate() {
        match note {
            Note::Mark(mark) if mark & 1 == 0 => {
                let act = mark >> 11;
                acts.insert(
                    act,
                    Act {
                        index: mark >> 3 & 0xff,
                        put: (mark >> 2 & 1 == 0).then_some(act),
                        begin: at,
                        end: usize::MAX,
                    },
                );
            }
            Note::Mark(mark) => acts.get_mut(&(mark >> 11)).unwrap().end = at,
            Note::Write { .. } => {}
        }
    }
    let acts: Vec<Act> = acts.into_values().collect();
    for (cut, note) in notes.iter().enumerate() {
        memory.apply(note);
        // What was acknowledged just now is what may be wrong.
        if !matches!(note, Note::Mark(mark) if mark & 1 == 1) {
            continue;
        }
        let (_store, clients) = recovered(&memory.0, ROOMY).expect("believed");
        let client = clients[0].as_ref().expect("believed");
        for index in 0..PAGES {
            let found = get(client, (0, 0, 0, index));
            let of_page = || {
                acts.iter()
                    .filter(|act| act.index == index && act.begin < cut)
            };
            let allowed = of_page().any(|act| {
                let is_last = !of_page().any(|other| other.begin > act.end && other.end <= cut);
                is_last && act.put.map(page) == found
            });
            let never = found.is_none() && !of_page().any(|act| act.end <= cut);
            assert!(
                allowed || never,
                "page {index} at {cut} of {}: found {:?}, lately {:?}",
                notes.len(),
                of_page().find(|act| act.put.map(page) == found),
                of_page()
                    .filter(|act| act.end + 300 >= cut)
                    .collect::<Vec<_>>(),
            );
        }
    }
}
