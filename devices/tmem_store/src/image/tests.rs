// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether what is made anew from page memory is what was there.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags};

use super::*;
use crate::tier::{Note, SEGMENT};
use crate::types::{Get, ObjectId, PAGE_SIZE, Page, PoolKind};

const KINDS: [PoolKind; 3] = [
    PoolKind::Persistent,
    PoolKind::Ephemeral,
    PoolKind::Persistent,
];

const CLIENTS: u8 = 2;

/// Client, pool, object, index.
type Handle = (u8, u32, u8, u64);

fn identity(client: u8) -> Identity {
    Identity::new([client + 1; 16])
}

fn object(object: u8) -> ObjectId {
    [object; 24]
}

/// Every seed makes another page; they are kept in all the ways there are.
fn page(seed: u64) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut state = seed * 4 + 1;
    let noise = match seed % 4 {
        0 => {
            if !seed.is_multiple_of(8) {
                page.as_chunks_mut::<8>().0.fill(seed.to_le_bytes());
            }
            return page;
        }
        1 => PAGE_SIZE,
        2 => 1500,
        _ => 100,
    };
    for byte in page.iter_mut().take(noise) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    page[4000..4008].copy_from_slice(&seed.to_le_bytes());
    page
}

#[derive(Clone, Debug)]
enum Op {
    Put(Handle, u64),
    Take(Handle),
    Flush(Handle, u64),
    FlushObject(Handle),
    Destroy(u8, u32),
    Compress(u64),
    Clean,
}

fn op() -> impl Strategy<Value = Op> {
    let handle = (0..CLIENTS, 0..3_u32, 0..3_u8, 0..60_u64);
    prop_oneof![
        20 => (handle.clone(), 0..1000_u64).prop_map(|(at, seed)| Op::Put(at, seed)),
        2 => handle.clone().prop_map(Op::Take),
        6 => (handle.clone(), 1..20_u64).prop_map(|(at, count)| Op::Flush(at, count)),
        1 => handle.prop_map(Op::FlushObject),
        1 => (0..CLIENTS, 0..3_u32).prop_map(|(client, pool)| Op::Destroy(client, pool)),
        4 => (1..20_u64).prop_map(Op::Compress),
        3 => Just(Op::Clean),
    ]
}

struct World {
    store: Store,
    clients: Vec<Client>,
    /// Seeds of the pages that are there. Ephemeral ones may have gone.
    pages: BTreeMap<Handle, u64>,
}

fn client_config() -> ClientConfig {
    ClientConfig {
        name: "test".into(),
        identity: None,
        quota: 1 << 30,
        max_pools: 4,
        weight: ClientConfig::WEIGHT,
    }
}

fn store_config(limit: u64) -> StoreConfig {
    StoreConfig {
        deferred_limit: limit / 4,
        ..StoreConfig::with_limit(limit)
    }
}

impl World {
    fn new(limit: u64) -> Self {
        let store = Store::new(store_config(limit)).unwrap();
        let clients = (0..CLIENTS).map(|client| {
            let config = ClientConfig {
                identity: Some(identity(client)),
                ..client_config()
            };
            store.add_client(config).unwrap()
        });
        let clients = clients.collect();
        Self {
            store,
            clients,
            pages: BTreeMap::new(),
        }
    }

    fn pool(&self, client: u8, pool: u32) -> std::sync::Arc<Pool> {
        let config = crate::PoolConfig {
            kind: KINDS[pool as usize],
            quota: None,
        };
        let client = &self.clients[usize::from(client)];
        // There is room for pools, or it is one that was there.
        let _ = client.create_pool(pool, config);
        client.pool(pool).expect("room for a pool")
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Put(at, seed) => {
                let pool = self.pool(at.0, at.1);
                if pool.put(&object(at.2), at.3, &page(seed)).result.is_ok() {
                    self.pages.insert(at, seed);
                } else {
                    self.pages.remove(&at);
                }
            }
            Op::Take(at) => {
                let pool = self.pool(at.0, at.1);
                let _ = pool.take(&object(at.2), at.3, &mut [0; PAGE_SIZE]);
                self.pages.remove(&at);
            }
            Op::Flush(at, count) => {
                self.pool(at.0, at.1).flush(&object(at.2), at.3, count);
                self.pages.retain(|page, _| {
                    (page.0, page.1, page.2) != (at.0, at.1, at.2)
                        || page.3 < at.3
                        || page.3 >= at.3 + count
                });
            }
            Op::FlushObject(at) => {
                self.pool(at.0, at.1).flush_object(&object(at.2));
                self.pages
                    .retain(|page, _| (page.0, page.1, page.2) != (at.0, at.1, at.2));
            }
            Op::Destroy(client, pool) => {
                self.clients[usize::from(client)].destroy_pool(pool);
                self.pages
                    .retain(|page, _| (page.0, page.1) != (client, pool));
            }
            Op::Compress(pages) => {
                self.store.compress_some(pages);
            }
            Op::Clean => {
                for client in &self.clients {
                    let account = client.account();
                    let _ = account.clean(&mut crate::reclaim::Effort::run(), true);
                }
            }
        }
    }

    fn notes(&self) -> Vec<Note> {
        self.store.shared().arena.journal().take()
    }
}

fn file(bytes: &[u8]) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("page memory", flags).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    let mut file = std::fs::File::from(file);
    file.write_all(bytes).unwrap();
    file.into()
}

/// The clients that are made anew; `None` where it is not believed.
fn recovered(bytes: &[u8], limit: u64) -> Option<(Store, Vec<Option<Client>>)> {
    let recovery = Store::recover(file(bytes), store_config(limit));
    let mut recovery = match recovery {
        Ok(recovery) => recovery,
        Err(Error::Damaged) => return None,
        Err(error) => panic!("{error}"),
    };
    let clients =
        (0..CLIENTS).map(
            |client| match recovery.client(identity(client), client_config()) {
                Ok(client) => Some(client),
                Err(Error::Damaged) => None,
                Err(error) => panic!("{error}"),
            },
        );
    let clients = clients.collect();
    Some((recovery.store().clone(), clients))
}

fn get(client: &Client, at: Handle) -> Option<Page> {
    let mut buffer = [0; PAGE_SIZE];
    match client.pool(at.1)?.get(&object(at.2), at.3, &mut buffer) {
        Get::Hit => Some(buffer),
        Get::Miss => None,
        Get::Lost => panic!("{at:?} is lost"),
    }
}

/// That a client has exactly the pages of one of `states`, each of which may be of
/// another one.
fn check(client: &Client, number: u8, states: [&BTreeMap<Handle, u64>; 2]) {
    let mut count = 0;
    for pool in 0..3 {
        for object in 0..3 {
            for index in 0..80 {
                let at = (number, pool, object, index);
                let found = get(client, at);
                count += u64::from(found.is_some());
                let allowed = states.map(|pages| pages.get(&at).copied());
                let right = allowed.iter().any(|seed| found == seed.map(page));
                let evicted = found.is_none() && KINDS[pool as usize] == PoolKind::Ephemeral;
                assert!(right || evicted, "{at:?}: {allowed:?}");
            }
        }
    }
    let stats = client.stats();
    // Nothing else is there, either.
    assert_eq!(stats.persistent_pages + stats.ephemeral_pages, count);
}

/// That all memory is accounted for, and comes back.
fn check_end(store: &Store, clients: Vec<Option<Client>>) {
    let held: u64 = clients
        .iter()
        .flatten()
        .map(|client| client.stats().held_bytes)
        .sum();
    assert_eq!(store.held_bytes(), held);
    assert!(store.stats().mapped_bytes <= held);
    drop(clients);
    assert_eq!(store.held_bytes(), 0);
    assert_eq!(store.stats().mapped_bytes, 0);
}

/// Plays writes back.
#[derive(Default)]
struct Memory(Vec<u8>);

impl Memory {
    fn apply(&mut self, note: &Note) {
        let Note::Write { at, bytes } = note else {
            return;
        };
        let end = at + bytes.len();
        if self.0.len() < end {
            self.0.resize(end.next_multiple_of(SEGMENT), 0);
        }
        self.0[*at..end].copy_from_slice(bytes);
    }
}

const LIMIT: u64 = 1 << 20;

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// The store may end after any of its writes: what is made anew has exactly the
    /// pages that it had, but for the operation that was under way, of which it has
    /// the old or the new state of each page.
    #[test]
    fn every_cut_is_a_state_that_was_there(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new(LIMIT);
        world.store.shared().arena.journal().begin();
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
            let mut recovery = Store::recover(file, store_config(LIMIT)).unwrap();
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

/// Page memory with all that there can be, and what was in it.
fn image() -> (Vec<u8>, BTreeMap<Handle, u64>) {
    let mut world = World::new(LIMIT);
    for step in 0..220_u64 {
        let at = (
            (step % 2) as u8,
            (step / 2 % 3) as u32,
            (step / 6 % 3) as u8,
            step / 5,
        );
        world.apply(&Op::Put(at, step));
        if step % 7 == 0 {
            world.apply(&Op::Flush(at, 1));
        }
        if step % 11 == 0 {
            world.apply(&Op::Compress(3));
        }
        if step == 150 {
            world.apply(&Op::Clean);
        }
    }
    world.pages.retain(|at, _| {
        let client = &world.clients[usize::from(at.0)];
        get(client, *at).is_some()
    });
    let bytes = usize::try_from(world.store.stats().mapped_bytes).unwrap();
    let mut image = vec![0; bytes * 2 + 8 * SEGMENT];
    rustix::io::pread(world.store.page_memory(), &mut image, 0).unwrap();
    let end = image.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    image.truncate((end + 1).next_multiple_of(SEGMENT));
    (image, world.pages)
}

/// A byte that is not what was written is never believed: the client has all of its
/// pages, if it does not matter, or nothing.
#[test]
fn memory_with_a_byte_changed_is_not_believed() {
    let (mut bytes, pages) = image();
    let (mut refused, mut harmless) = (0, 0);
    let mut random = 7_u64;
    // All of the first headers, and then here and there.
    let first = 0..400;
    let others = std::iter::repeat_with(|| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) as usize
    });
    for at in first.chain(others.take(1500)) {
        let at = at % bytes.len();
        let flip = (at * 37).to_le_bytes()[0].max(1);
        bytes[at] ^= flip;
        match recovered(&bytes, LIMIT) {
            None => refused += 1,
            Some((store, clients)) => {
                for (number, client) in (0..).zip(&clients) {
                    match client {
                        Some(client) => check(client, number, [&pages, &pages]),
                        None => refused += 1,
                    }
                }
                if clients.iter().all(Option::is_some) {
                    harmless += 1;
                }
                check_end(&store, clients);
            }
        }
        bytes[at] ^= flip;
    }
    assert!(refused > 300, "{refused} refused, {harmless} harmless");
}

/// One client's damage is not another's.
#[test]
fn client_whose_memory_is_damaged_loses_its_pages_alone() {
    let (mut bytes, pages) = image();
    let identity = identity(0).bytes();
    let segment = bytes
        .chunks_exact(SEGMENT)
        .position(|segment| segment[16..32] == identity)
        .expect("a segment");
    bytes[segment * SEGMENT + 200] ^= 1;
    let (store, clients) = recovered(&bytes, LIMIT).expect("headers are right");
    let [None, Some(other)] = &clients[..] else {
        panic!("{clients:?}");
    };
    check(other, 1, [&pages, &pages]);
    check_end(&store, clients);
}

proptest! {
    /// Headers that make no sense although their checksums are right: nothing panics,
    /// every page that is found is lost or has some bytes, and all memory comes back.
    #[test]
    fn headers_that_lie_do_no_harm(
        lies in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), any::<u64>()), 1..8),
    ) {
        let (mut bytes, _) = image();
        for (place, low, second) in lies {
            let segment = place.index(bytes.len() / SEGMENT);
            let range = segment * SEGMENT..(segment + 1) * SEGMENT;
            lie(&mut bytes[range], place.index(60), low, second);
        }
        let Some((store, clients)) = recovered(&bytes, LIMIT) else {
            return Ok(());
        };
        for client in clients.iter().flatten() {
            for pool in 0..4 {
                let Some(pool) = client.pool(pool) else {
                    continue;
                };
                for at in 0..3 * 80 {
                    let _ = pool.get(&object(at % 3), u64::from(at / 3), &mut [0; PAGE_SIZE]);
                    pool.flush(&object(at % 3), u64::from(at / 3), 1);
                }
            }
            let account = client.account();
            let _ = account.clean(&mut crate::reclaim::Effort::run(), true);
        }
        check_end(&store, clients);
    }
}

/// Gives the entry after `skip` others another header, with the right checksum.
fn lie(segment: &mut [u8], skip: usize, low: u64, second: u64) {
    use crate::tier::{Place, SegmentHeader, State, Word};

    let header: &[u8; SegmentHeader::BYTES] = segment.first_chunk().unwrap();
    let Ok(Some(header)) = SegmentHeader::from_bytes(header) else {
        return;
    };
    let word_at = |segment: &[u8], at: usize| {
        let bytes = segment.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().unwrap()))
    };
    let mut offset = SegmentHeader::BYTES;
    for _ in 0..skip {
        let word = word_at(segment, offset).and_then(Word::decode);
        match word {
            Some(word) => offset += crate::tier::footprint(word.len.into()),
            None => break,
        }
    }
    let (Some(word), true) = (Word::decode(low), offset + 16 < SEGMENT) else {
        return;
    };
    let place = Place {
        sequence: header.sequence,
        offset,
    };
    let end = (offset + 16 + usize::from(word.len)).min(SEGMENT);
    let first = match word.state {
        State::Live => word.live(place, second, &segment[offset + 16..end]),
        State::Open | State::Dead => word.without_payload(place),
    };
    segment[offset..offset + 8].copy_from_slice(&first.to_le_bytes());
    segment[offset + 8..offset + 16].copy_from_slice(&second.to_le_bytes());
}

#[test]
fn what_nobody_claims_is_freed() {
    let (bytes, _) = image();
    let recovery = Store::recover(file(&bytes), store_config(LIMIT)).unwrap();
    assert_eq!(recovery.identities().count(), 2);
    let store = recovery.store().clone();
    assert!(store.stats().mapped_bytes > 0);
    drop(recovery);
    assert_eq!(store.stats().mapped_bytes, 0);
}

#[test]
fn files_that_are_no_page_memory_are_errors() {
    let other = StoreConfig::with_limit(LIMIT);
    let noise: Vec<u8> = page(1).repeat(40);
    let recovery = Store::recover(file(&noise), other.clone());
    assert!(matches!(recovery, Err(Error::Damaged)));
    let unsealed = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
    let recovery = Store::recover(unsealed, other.clone());
    assert!(matches!(recovery, Err(Error::PageMemory { .. })));
    // An empty one is an empty store, and a short one ends early.
    assert!(Store::recover(file(&[]), other.clone()).is_ok());
    assert!(Store::recover(file(&[0; 100]), other).is_ok());
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
    let journal = world.store.shared().arena.journal();
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
                let account = world.clients[0].account();
                let _ = account.clean(&mut crate::reclaim::Effort::run(), true);
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
