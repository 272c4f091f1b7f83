// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use proptest::prelude::*;

use super::format::{Place, Word, footprint};
use super::*;
use crate::types::{Identity, ObjectId, PoolKind};

fn arena() -> Arena {
    Arena::new(8 << 20, None).expect("a small arena")
}

fn log() -> Log {
    Log::new(Identity::new([5; 16]))
}

fn tag() -> PoolTag {
    PoolTag::new(3, PoolKind::Ephemeral, 77)
}

fn owner(object: &ObjectId, index: u64) -> Owner<'_> {
    Owner {
        pool: tag(),
        object,
        index,
    }
}

/// The log does not look into it.
fn lz4(bytes: &[u8]) -> Payload<'_> {
    Payload {
        codec: Codec::Lz4,
        bytes,
    }
}

fn append(log: &Log, arena: &Arena, owner: &Owner<'_>, bytes: &[u8]) -> Entry {
    let mut grant = 1 << 20;
    let entry = log.append(arena, Temperature::Warm, owner, lz4(bytes), &mut grant);
    let entry = entry.expect("room");
    arena.publish(EntryRef::of(&entry));
    entry
}

#[test]
fn locations_and_headers_survive_packing() {
    for (segment, offset, len) in [
        (0, 0, 0),
        (MAX_SEGMENTS - 1, SEGMENT - 8, 4096),
        (1 << 20, 8, 1),
    ] {
        let location = Location::new(segment, offset, Codec::Lz4, len);
        let location = Location::from_word(location.word());
        assert_eq!(location.codec(), Some(Codec::Lz4));
        assert_eq!(location.segment(), segment);
        assert_eq!(location.offset(), offset);
        assert_eq!(location.len(), usize::from(len));
        assert!(location.word() < 1 << 55);
    }
    assert_eq!(Word::decode(0), None);
    for codec in 4..16 {
        assert_eq!(Word::decode(2 | codec << 3), None, "codec {codec}");
        assert_eq!(Location::from_word(codec << 51).codec(), None);
    }
    assert_eq!(Word::decode(u64::MAX), None);
}

proptest! {
    #[test]
    fn any_word_that_is_decoded_is_encoded_the_same(word: u64) {
        if let Some(decoded) = Word::decode(word) {
            let place = Place { sequence: 1, offset: 40 };
            let encoded = decoded.without_payload(place);
            prop_assert_eq!(encoded << 32, word << 32);
            prop_assert_eq!(Word::decode(encoded), Some(decoded));
        }
    }

    /// What is appended is found, by its holder and by who walks through the
    /// segment; memory is what entries take, and comes back.
    #[test]
    fn entries_are_what_was_appended(
        acts in prop::collection::vec((0_u8..4, 0_usize..=4096, 0_u8..4), 1..400),
    ) {
        let (arena, log) = (arena(), log());
        let mut kept: Vec<(Entry, Vec<u8>, ObjectId, u64)> = Vec::new();
        for (step, (act, len, object)) in (0_u64..).zip(acts) {
            if act == 0 && !kept.is_empty() {
                let (entry, ..) = kept.swap_remove(len % kept.len());
                log.free(&arena, entry, true);
                continue;
            }
            let bytes: Vec<u8> = (0..len).map(|at| (at as u64 * 31 + step).to_le_bytes()[0]).collect();
            let object = [object; 24];
            let mut back = 0;
            let filled = (act == 1)
                .then(|| log.fill(&arena, &owner(&object, step), lz4(&bytes), &mut back))
                .flatten();
            filled.iter().for_each(|entry| arena.publish(EntryRef::of(entry)));
            let entry =
                filled.unwrap_or_else(|| append(&log, &arena, &owner(&object, step), &bytes));
            kept.push((entry, bytes, object, step));
        }
        let live: usize = kept.iter().map(|(entry, ..)| entry.footprint()).sum();
        // Names are needed as long as their segment is.
        let needed = log.backed_bytes() - log.dead_bytes();
        prop_assert!(needed >= live as u64 && needed <= live as u64 + log.backed_bytes() / 16);
        prop_assert_eq!(arena.backed_bytes().expect("a size"), log.backed_bytes());
        for (entry, bytes, ..) in &kept {
            let content = EntryRef::of(entry);
            prop_assert_eq!(arena.payload(content), Some(lz4(bytes)));
        }
        while let Some(victim) = log.victim(&arena, 0, u32::MAX) {
            let mut names = std::collections::BTreeMap::new();
            let (mut at, mut found) = (0, Vec::new());
            while let Some(moved) = log.next(&arena, &victim, &mut at) {
                match moved {
                    Moved::Name(name, pool, object) => {
                        prop_assert_eq!(pool, tag());
                        names.insert(name, object);
                    }
                    Moved::Page(location, name, index) => {
                        let payload = arena.of_victim(&victim, location).expect("a codec");
                        prop_assert_eq!(payload.codec, Codec::Lz4);
                        let bytes = payload.bytes.to_vec();
                        found.push((location, names.get(&name).copied(), index, bytes));
                    }
                    Moved::Other => {}
                }
            }
            for (location, object, index, bytes) in found {
                let at = kept.iter().position(|(entry, ..)| entry.location() == location);
                let (entry, expected, owner, number) = kept.swap_remove(at.expect("is live"));
                prop_assert_eq!((object, index), (Some(owner), number));
                prop_assert_eq!(&bytes, &expected);
                log.free(&arena, entry, false);
            }
            log.done(&arena, victim);
        }
        for (entry, ..) in kept {
            log.free(&arena, entry, false);
        }
        prop_assert_eq!((log.backed_bytes(), log.dead_bytes()), (0, 0));
        prop_assert_eq!(arena.backed_bytes().expect("a size"), 0);
    }
}

#[test]
fn pinned_payload_outlives_its_entry() {
    let (arena, log) = (arena(), log());
    let object = [1; 24];
    let entry = append(&log, &arena, &owner(&object, 0), &[7; 1000]);
    let other = append(&log, &arena, &owner(&object, 1), &[9; 1000]);
    let pin = log.pin(&arena, EntryRef::of(&entry));
    log.free(&arena, entry, false);
    log.free(&arena, other, false);
    // Nothing is live, and yet the segment is not begun anew.
    let newer = append(&log, &arena, &owner(&object, 0), &[8; 1000]);
    assert_eq!(arena.pinned(&pin), Some(lz4(&[7; 1000])));
    log.unpin(&arena, pin);
    log.free(&arena, newer, false);
    assert_eq!(arena.backed_bytes().expect("a size"), 0);
}

#[test]
fn log_takes_no_more_than_it_is_granted() {
    let (arena, log) = (arena(), log());
    let object = [1; 24];
    let (mut granted, mut entries) = (0_u64, Vec::new());
    for index in 0..200 {
        let mut grant = 0;
        loop {
            let owner = owner(&object, index);
            match log.append(
                &arena,
                Temperature::Cold,
                &owner,
                lz4(&[1; 3000]),
                &mut grant,
            ) {
                Ok(entry) => break entries.push(entry),
                Err(Short::Memory { least, wanted }) => {
                    assert!(least > grant && wanted >= least);
                    granted += least - grant;
                    grant = least;
                }
                Err(Short::System) => panic!("no memory"),
            }
        }
        granted -= grant;
        assert_eq!(log.backed_bytes(), granted);
    }
    let footprint = 200 * footprint(3000) as u64;
    assert!(granted < footprint * 103 / 100 + PIECE as u64, "{granted}");
    let freed: u64 = entries
        .into_iter()
        .map(|entry| log.free(&arena, entry, false))
        .sum();
    assert_eq!(freed, granted);
}

#[test]
fn arena_that_is_used_up_says_so() {
    let arena = Arena::new(PIECE as u64, None).expect("a small arena");
    let log = log();
    let object = [1; 24];
    let mut entries = Vec::new();
    let mut grant = 1 << 30;
    let end = loop {
        let owner = owner(&object, 0);
        match log.append(
            &arena,
            Temperature::Warm,
            &owner,
            lz4(&[0; 4096]),
            &mut grant,
        ) {
            Ok(entry) => entries.push(entry),
            Err(short) => break short,
        }
    };
    assert_eq!(
        (end, entries.len()),
        (Short::System, (SEGMENT - 80) / LARGEST)
    );
    for entry in entries {
        log.free(&arena, entry, false);
    }
}

/// Neither cleaned nor recompressed: its memory would not come back.
#[test]
fn segment_with_an_entry_that_is_not_published_is_left_alone() {
    let (arena, log) = (arena(), log());
    let object = [1; 24];
    let mut grant = 1 << 20;
    let page = [1; 4096];
    let open = log.append(
        &arena,
        Temperature::Warm,
        &owner(&object, 0),
        lz4(&page),
        &mut grant,
    );
    let open = open.expect("room");
    // Enough for the segment to be sealed.
    let mut others: Vec<_> = (1..40)
        .map(|index| append(&log, &arena, &owner(&object, index), &page))
        .collect();
    log.free(&arena, others.swap_remove(0), false);
    assert!(log.victim(&arena, 0, u32::MAX).is_none());
    assert!(log.cold(&arena, 0).is_none());
    arena.publish(EntryRef::of(&open));
    let victim = log.victim(&arena, 0, u32::MAX).expect("it is sparse");
    log.done(&arena, victim);
    let victim = log.cold(&arena, 0).expect("it is old");
    log.done(&arena, victim);
    for entry in others.into_iter().chain([open]) {
        log.free(&arena, entry, false);
    }
    assert_eq!(arena.backed_bytes().expect("a size"), 0);
}

/// A log of which so many entries were freed, in segments that are sealed; what is left.
fn with_holes(log: &Log, arena: &Arena, object: &ObjectId, sizes: &[usize]) -> Vec<Entry> {
    let filled: Vec<_> = (0..)
        .zip(sizes)
        .map(|(index, size)| append(log, arena, &owner(object, index), &vec![7; *size]))
        .collect();
    // Enough for the segment to be sealed.
    let others = (1000..1040).map(|index| append(log, arena, &owner(object, index), &[1; 4096]));
    let others = others.collect();
    for entry in filled {
        assert_eq!(log.free(arena, entry, true), 0);
    }
    others
}

fn fill(log: &Log, arena: &Arena, owner: &Owner<'_>, bytes: &[u8]) -> Option<Entry> {
    let mut grant = 0;
    let entry = log.fill(arena, owner, lz4(bytes), &mut grant);
    assert_eq!(grant, 0);
    entry
}

fn end(log: &Log, arena: &Arena, entries: impl IntoIterator<Item = Entry>) {
    for entry in entries {
        log.free(arena, entry, false);
    }
    assert_eq!((log.backed_bytes(), log.dead_bytes()), (0, 0));
    assert_eq!(arena.backed_bytes().expect("a size"), 0);
}

/// Entries fit in the place of one that was freed if what is left can have a header.
#[test]
fn freed_places_are_filled() {
    let (arena, log) = (arena(), log());
    let object = [1; 24];
    let mut kept = with_holes(&log, &arena, &object, &[1000]);
    let (backed, dead) = (log.backed_bytes(), log.dead_bytes());
    let of = |index| owner(&object, index);
    for too_large in [1001, 4096] {
        assert_eq!(fill(&log, &arena, &of(0), &vec![2; too_large]), None);
    }
    // Eight bytes would be left.
    assert_eq!(fill(&log, &arena, &of(0), &[2; 992]), None);
    let first = fill(&log, &arena, &of(0), &[2; 600]).expect("a place");
    let second = fill(&log, &arena, &of(1), &[3; 384]).expect("the rest of it");
    assert_eq!(fill(&log, &arena, &of(2), &[]), None);
    for (entry, bytes) in [(&first, vec![2; 600]), (&second, vec![3; 384])] {
        assert_eq!(arena.payload(EntryRef::of(entry)), Some(lz4(&bytes)));
    }
    assert_eq!(
        (log.backed_bytes(), log.dead_bytes()),
        (backed, dead - 1016)
    );
    // Neither is published yet.
    assert!(log.cold(&arena, 0).is_none());
    for entry in [&first, &second] {
        arena.publish(EntryRef::of(entry));
    }
    let victim = log.cold(&arena, 0).expect("a segment at rest");
    let (mut at, mut found) = (0, Vec::new());
    while let Some(moved) = log.next(&arena, &victim, &mut at) {
        if let Moved::Page(location, 0, index) = moved {
            found.push((index, location.len()));
        }
    }
    assert_eq!(
        found.get(..3),
        Some([(0, 600), (1, 384), (1000, 4096)].as_slice())
    );
    log.done(&arena, victim);
    kept.extend([first, second]);
    end(&log, &arena, kept);
}

/// Others may still read what was there.
#[test]
fn place_in_a_segment_that_is_read_is_not_filled() {
    let (arena, log) = (arena(), log());
    let object = [1; 24];
    let kept = with_holes(&log, &arena, &object, &[1000, 1000, 1000]);
    let [first, ..] = kept.as_slice() else {
        panic!("nothing is kept");
    };
    let pin = log.pin(&arena, EntryRef::of(first));
    assert_eq!(fill(&log, &arena, &owner(&object, 0), &[2; 1000]), None);
    log.unpin(&arena, pin);
    let mut kept = with_holes(&log, &arena, &object, &[1000]);
    let mut victims = Vec::new();
    while let Some(victim) = log.victim(&arena, 0, u32::MAX) {
        victims.push(victim);
    }
    assert_eq!(fill(&log, &arena, &owner(&object, 0), &[2; 1000]), None);
    for victim in victims {
        log.done(&arena, victim);
    }
    // Places that could not be filled are forgotten.
    assert_eq!(fill(&log, &arena, &owner(&object, 0), &[2; 1000]), None);
    kept.extend(with_holes(&log, &arena, &object, &[1000]));
    kept.extend(fill(&log, &arena, &owner(&object, 0), &[2; 1000]));
    assert_eq!(kept.len(), 81);
}

/// Names are numbered in order, so that none can be added.
#[test]
fn place_is_filled_only_by_pages_of_the_first_object() {
    let (arena, log) = (arena(), log());
    let (object, other) = ([1; 24], [2; 24]);
    let kept = with_holes(&log, &arena, &object, &[1000, 1000]);
    let of_pool = Owner {
        pool: PoolTag::new(4, PoolKind::Ephemeral, 77),
        ..owner(&object, 0)
    };
    assert_eq!(fill(&log, &arena, &owner(&other, 0), &[2; 1000]), None);
    assert_eq!(fill(&log, &arena, &of_pool, &[2; 1000]), None);
    end(&log, &arena, kept);
}

/// A place that is remembered may be in a segment that was given back.
#[test]
fn place_in_a_segment_that_was_given_back_is_not_filled() {
    let (arena, log) = (arena(), log());
    let object = [1; 24];
    for _ in 0..2 {
        let kept = with_holes(&log, &arena, &object, &[1000]);
        end(&log, &arena, kept);
    }
    let kept: Vec<_> = (0..80)
        .map(|index| append(&log, &arena, &owner(&object, index), &[1; 4096]))
        .collect();
    assert_eq!(fill(&log, &arena, &owner(&object, 0), &[2; 1000]), None);
    end(&log, &arena, kept);
}

fn append_deferred(log: &Log, arena: &Arena, index: u64, grant: &mut u64) -> Result<Entry, Short> {
    let (object, page) = ([1; 24], [9; 4096]);
    let payload = Payload {
        codec: Codec::Raw,
        bytes: &page,
    };
    let owner = owner(&object, index);
    log.append(arena, Temperature::Deferred, &owner, payload, grant)
}

/// Entries of deferred pages that fill `segments` segments, with memory for no more.
fn fill_with_deferred(log: &Log, arena: &Arena, segments: usize) -> Vec<Entry> {
    let mut grant = (segments * SEGMENT) as u64;
    let kept = (0..(segments * IN_SEGMENT) as u64)
        .map(|index| append_deferred(log, arena, index, &mut grant).expect("granted"))
        .collect();
    assert_eq!(grant, 0);
    kept
}

/// Deferred pages in a segment.
const IN_SEGMENT: usize = (SEGMENT - 80) / LARGEST;

/// What deferred pages leave is there for the next ones, until memory is short.
#[test]
fn segments_that_deferred_pages_leave_are_used_again() {
    let (arena, log) = (arena(), log());
    let segment = SEGMENT as u64;
    let mut kept = fill_with_deferred(&log, &arena, 4);
    assert!(!log.has_spare());
    for entry in kept.drain(..IN_SEGMENT) {
        assert_eq!(log.free(&arena, entry, false), 0, "nothing comes back");
    }
    assert!(log.has_spare());
    assert_eq!(log.dead_bytes(), 0, "it is no work for the cleaner");
    assert_eq!(arena.backed_bytes().expect("a size"), 4 * segment);
    for index in 0..IN_SEGMENT as u64 {
        kept.push(append_deferred(&log, &arena, index, &mut 0).expect("memory is spare"));
    }
    assert!(!log.has_spare());
    let wanted = Short::Memory {
        least: PIECE as u64,
        wanted: segment,
    };
    assert_eq!(append_deferred(&log, &arena, 0, &mut 0), Err(wanted));
    for entry in kept.drain(..3 * IN_SEGMENT) {
        assert_eq!(log.free(&arena, entry, false), 0);
    }
    assert_eq!(log.retire(&arena, 2), 2 * segment);
    assert!(log.has_spare());
    assert_eq!(arena.backed_bytes().expect("a size"), 2 * segment);
    end(&log, &arena, kept);
    assert_eq!(arena.backed_bytes().expect("a size"), 0);
}

/// Of what is spare, what was used lately stays.
#[test]
fn segments_that_are_spare_go_when_they_are_not_needed() {
    let (arena, log) = (arena(), log());
    let unneeded = || {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let unneeded = log.unneeded(&arena);
            if unneeded > 0 || std::time::Instant::now() > deadline {
                break unneeded;
            }
            // One is used all the time.
            let page = append_deferred(&log, &arena, 0, &mut 0).expect("memory is spare");
            assert_eq!(log.free(&arena, page, false), 0);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let mut kept = fill_with_deferred(&log, &arena, 8);
    for entry in kept.drain(..4 * IN_SEGMENT) {
        assert_eq!(log.free(&arena, entry, false), 0);
    }
    assert_eq!(unneeded(), 3);
    let mut back = 0;
    log.drop_spare(&arena, 3, |bytes| back += bytes);
    assert_eq!(back, 3 * SEGMENT as u64);
    assert_eq!(log.backed_bytes(), 5 * SEGMENT as u64);
    end(&log, &arena, kept);
}
