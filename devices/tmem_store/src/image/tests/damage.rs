// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that is not as it was written, and what else is given to be taken over.

use rustix::fs::{Mode, OFlags};

use super::*;

/// Page memory with all that there can be, and what was in it.
pub(super) fn image() -> (Vec<u8>, BTreeMap<Handle, u64>) {
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
            let member = client.member();
            let _ = member.clean(&mut crate::reclaim::Effort::run(), true);
        }
        check_end(&store, clients);
    }
}

/// Gives the entry after `skip` others another header, with the right checksum.
pub(super) fn lie(segment: &mut [u8], skip: usize, low: u64, second: u64) {
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
    let recovery = Store::recover(unused(file(&bytes)), store_config(LIMIT)).unwrap();
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
    let recovery = Store::recover(unused(file(&noise)), other.clone());
    assert!(matches!(recovery, Err(Error::Damaged)));
    let unsealed = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
    let recovery = Store::recover(unused(unsealed), other.clone());
    assert!(matches!(recovery, Err(Error::PageMemory { .. })));
    // One with a name cannot be sealed.
    let named = tempfile("/dev/shm");
    assert!(Store::recover(named, other.clone()).is_ok());
    // An empty one is an empty store, and a short one ends early.
    assert!(Store::recover(unused(file(&[])), other.clone()).is_ok());
    assert!(Store::recover(unused(file(&[0; 100])), other).is_ok());
}

/// A file on the file system there, which nobody else opens.
#[expect(unsafe_code, reason = "it is the test's own file")]
fn tempfile(folder: &str) -> PageMemory {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).unwrap();
    // SAFETY: it has no name, and this is its only descriptor.
    unsafe { PageMemory::named(file) }
}

/// What a later version has written is told from damage.
#[test]
fn page_memory_of_another_version_is_told() {
    let (mut bytes, _) = image();
    for segment in bytes.chunks_exact_mut(SEGMENT) {
        if segment.starts_with(b"tmem") {
            segment[4..8].copy_from_slice(&7_u32.to_le_bytes());
        }
    }
    let recovery = Store::recover(unused(file(&bytes)), store_config(LIMIT));
    let Err(error) = recovery else {
        panic!("{recovery:?}");
    };
    assert!(matches!(error, Error::OtherVersion { found: 7, known: 2 }));
    let said = error.to_string();
    assert!(
        said.contains("version 7") && said.contains("up to 2"),
        "{said}"
    );
}

/// No store counts so far; its own would begin anew.
#[test]
fn sequence_after_which_none_comes_is_damage() {
    let header = crate::tier::SegmentHeader {
        identity: identity(0),
        sequence: u64::MAX,
    };
    let mut bytes = vec![0; SEGMENT];
    for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(header.encode()) {
        *to = word.to_le_bytes();
    }
    assert!(recovered(&bytes, LIMIT).is_none());
}

#[test]
fn client_is_claimed_once_and_one_that_was_not_there_has_nothing() {
    let (bytes, _) = image();
    let mut recovery = Store::recover(unused(file(&bytes)), store_config(LIMIT)).unwrap();
    let first = recovery.client(identity(0), client_config()).unwrap();
    let again = recovery.client(identity(0), client_config());
    assert!(matches!(again, Err(Error::IdentityTaken)));
    assert!(first.stats().persistent_pages > 0);
    let stranger = recovery.client(identity(9), client_config()).unwrap();
    assert_eq!(stranger.stats().pools, 0);
    // The other one that was there can still be claimed.
    assert_eq!(recovery.identities().collect::<Vec<_>>(), [identity(1)]);
}
