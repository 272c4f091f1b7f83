// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Verified shares: a machine that is trusted by nobody puts nothing there that does not belong there,
//! takes nothing away, and is given no share that the operator has not named it for.

use rustix::process::Signal;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cloned::ask;
use crate::front_end::FrontEnd;
use crate::request::{
    ANSWER, DATA, EPHEMERAL, EXISTS, FLUSH, FLUSH_EXTENTS, FLUSH_OBJECT, GET, OK, PUT,
    destroy_pool, header_for, run,
};
use crate::restart::added::Places;
use crate::restart::host::Outside;
use crate::shares::{
    GOLDEN, GOLDEN_BYTES, MISS, NO_SHARE, SHARED, UNSUPPORTED, machine, open, set, shown,
};

/// Statuses.
const MISMATCH: u8 = 0x23;
const INVALID: u8 = 0x41;
/// Beside the status of a page that was put: there was one.
const PRIOR_REMOVED: u8 = 0x80;
/// The flag of a verified share's pool.
const VERIFIED: u32 = 2;
const POOL: u32 = 9;
const SALT: [u8; 8] = *b"dm-salt!";

type Handle = ([u8; 24], u64);

/// Where the block that repeats `byte` belongs: its hash is that of dm-verity, in two parts.
fn handle(byte: u8) -> Handle {
    handle_with(&SALT, byte)
}

fn handle_with(salt: &[u8], byte: u8) -> Handle {
    let hash = Sha256::new().chain_update(salt).chain_update([byte; 4096]);
    parts(&hash.finalize())
}

fn parts(hash: &[u8]) -> Handle {
    let (object, index) = hash.split_at(24);
    let index = u64::from_le_bytes(index.try_into().unwrap());
    (object.try_into().unwrap(), index)
}

fn open_verified(a: &mut FrontEnd) -> u8 {
    open(a, POOL, EPHEMERAL, SHARED | VERIFIED, GOLDEN_BYTES)
}

/// The status of a page that was put.
fn put(a: &mut FrontEnd, handle: Handle, byte: u8) -> u8 {
    put_run(a, handle, &[byte]).remove(0)
}

/// The statuses of pages that were put side by side.
fn put_run(a: &mut FrontEnd, handle: Handle, bytes: &[u8]) -> Vec<u8> {
    let count = u32::try_from(bytes.len()).unwrap();
    let pages: Vec<_> = bytes.iter().flat_map(|byte| [*byte; 4096]).collect();
    a.write(DATA, &pages);
    let rest = [(DATA, 4096 * count, false), (ANSWER, 16 + count, true)];
    assert_eq!(run(a, &header_for(PUT, POOL, handle, count), &rest), OK);
    (0..u64::from(count))
        .map(|nth| a.read(ANSWER + 16 + nth))
        .collect()
}

/// The status of the request, that of the page, and its first byte.
fn get(a: &mut FrontEnd, handle: Handle) -> (u8, u8, u8) {
    a.write(DATA, &[0; 4096]);
    let rest = [(ANSWER, 17, true), (DATA, 4096, true)];
    let status = run(a, &header_for(GET, POOL, handle, 1), &rest);
    (status, a.read(ANSWER + 16), a.read(DATA))
}

fn verified_share(places: &Places, vms: &[&str]) {
    let salt: String = SALT.iter().map(|byte| format!("{byte:02x}")).collect();
    let image = json!({ "salt": salt, "root_hash": "ad".repeat(32) });
    let body = json!({ "name": "golden", "uuid": GOLDEN, "verified": image, "vms": vms });
    let (status, said) = ask(places, "POST", "/v1/shares", &body);
    assert_eq!(status, 201, "{said}");
    assert_eq!(said.get("verified"), Some(&image));
}

#[test]
fn a_hostile_machine_neither_poisons_nor_empties_a_verified_share() {
    let places = Places::new();
    let _host = places.host(Outside::Store);
    // Of three domains, of which the share knows nothing.
    let mut good = machine(&places, "one", "team-a");
    let mut other = machine(&places, "two", "team-b");
    let mut hostile = machine(&places, "three", "team-c");
    let mut foreign = machine(&places, "foreign", "team-a");
    verified_share(&places, &["one", "two", "three"]);
    for a in [&mut good, &mut other, &mut hostile] {
        assert_eq!(open_verified(a), OK);
        assert_eq!(open_verified(a), EXISTS);
    }
    assert_eq!(open_verified(&mut foreign), NO_SHARE);

    assert_eq!(put(&mut good, handle(1), 1), OK);
    assert_eq!(get(&mut other, handle(1)), (OK, OK, 1));

    // What is not there yet, what is, and with the hash of another image.
    for (at, byte) in [
        (handle(2), 66),
        (handle(1), 66),
        (handle_with(&[], 2), 2),
        (handle_with(b"another!", 2), 2),
        (([0; 24], 0), 0),
    ] {
        assert_eq!(put(&mut hostile, at, byte), MISMATCH);
    }
    // A run of pages is one of hashes that nobody has.
    let (object, index) = handle(1);
    let statuses = put_run(&mut hostile, (object, index), &[66, 2, 1]);
    assert_eq!(statuses, [MISMATCH; 3]);
    assert_eq!(get(&mut good, (object, index + 1)), (OK, MISS, 0));
    assert_eq!(shown(&places, "pages"), 1);

    // Nothing is taken away.
    let pages = |a: &FrontEnd| a.read(ANSWER + 8);
    let answer = [(ANSWER, 16, true)];
    for (op, count) in [(FLUSH, 1), (FLUSH_OBJECT, 0)] {
        let request = header_for(op, POOL, (object, index), count);
        assert_eq!(run(&mut hostile, &request, &answer), OK);
        assert_eq!(pages(&hostile), 0);
    }
    hostile.write(DATA, &[index.to_le_bytes(), 1u64.to_le_bytes()].concat());
    let request = header_for(FLUSH_EXTENTS, POOL, (object, 0), 1);
    let rest = [(DATA, 16, false), (ANSWER, 16, true)];
    assert_eq!(run(&mut hostile, &request, &rest), OK);
    assert_eq!(pages(&hostile), 0);
    let mut removing = header_for(GET, POOL, (object, index), 1);
    *removing.get_mut(2).unwrap() = 1;
    let rest = [(ANSWER, 17, true), (DATA, 4096, true)];
    assert_eq!(run(&mut hostile, &removing, &rest), INVALID);
    assert_eq!(destroy_pool(&mut hostile, POOL), OK);
    for a in [&mut good, &mut other] {
        assert_eq!(get(a, handle(1)), (OK, OK, 1));
        assert_eq!(get(a, handle(2)), (OK, MISS, 0));
    }

    // Who knows what belongs there may put it.
    assert_eq!(open_verified(&mut hostile), OK);
    assert_eq!(put(&mut hostile, handle(1), 1), OK | PRIOR_REMOVED);
    assert_eq!(put(&mut hostile, handle(3), 3), OK);
    assert_eq!(get(&mut good, handle(3)), (OK, OK, 3));
}

/// A machine that fills a share with blocks that are of no image does not take more than its quota, nor
/// can it keep others from putting.
#[test]
fn a_verified_share_that_is_filled_holds_what_it_may() {
    let places = Places::new();
    let _host = places.host(Outside::Store);
    let mut good = machine(&places, "one", "team-a");
    let mut hostile = machine(&places, "two", "team-b");
    verified_share(&places, &["one", "two"]);
    set(&places, "/v1/shares/golden", json!({ "quota": "1M" }));
    for a in [&mut good, &mut hostile] {
        assert_eq!(open_verified(a), OK);
    }
    let mut random = fastrand::Rng::with_seed(7);
    let mut page = [0; 4096];
    for _ in 0..1000 {
        random.fill(&mut page);
        let hash = Sha256::new()
            .chain_update(SALT)
            .chain_update(page)
            .finalize();
        let at = parts(&hash);
        hostile.write(DATA, &page);
        let rest = [(DATA, 4096, false), (ANSWER, 17, true)];
        let status = run(&mut hostile, &header_for(PUT, POOL, at, 1), &rest);
        assert_eq!((status, hostile.read(ANSWER + 16)), (OK, OK));
        assert!(shown(&places, "held_bytes") <= 1 << 20);
    }
    assert!(shown(&places, "evicted_pages") > 500);
    assert_eq!(put(&mut good, handle(1), 1), OK);
    assert_eq!(get(&mut good, handle(1)), (OK, OK, 1));
}

#[test]
fn what_is_verified_is_so_for_all_and_after_a_restart() {
    let places = Places::new();
    let mut host = places.host(Outside::Holder);
    let mut a = machine(&places, "one", "team-a");
    let mut b = machine(&places, "two", "team-b");
    verified_share(&places, &["one"]);
    for signal in [Signal::KILL, Signal::TERM] {
        // A driver that does not know of verified shares finds none.
        assert_eq!(
            open(&mut a, POOL, EPHEMERAL, SHARED, GOLDEN_BYTES),
            NO_SHARE
        );
        let unshared = open(&mut a, POOL, EPHEMERAL, VERIFIED, GOLDEN_BYTES);
        assert_eq!(unshared, UNSUPPORTED);
        assert_eq!(open_verified(&mut a), OK);
        assert_eq!(open_verified(&mut b), NO_SHARE);
        assert_eq!(get(&mut a, handle(1)), (OK, MISS, 0));
        assert_eq!(put(&mut a, handle(1), 2), MISMATCH);
        assert_eq!(put(&mut a, handle(1), 1), OK);
        set(&places, "/v1/shares/golden", json!({ "vms": [] }));
        assert_eq!(get(&mut a, handle(1)).0, NO_SHARE);
        set(&places, "/v1/shares/golden", json!({ "vms": ["one"] }));
        assert_eq!(get(&mut a, handle(1)), (OK, OK, 1));
        host.restart(signal);
    }
    // One that is made anew without verification is not what the driver has asked for.
    assert_eq!(open_verified(&mut a), OK);
    assert_eq!(places.ask("DELETE", "/v1/shares/golden", ""), 204);
    let body = json!({ "name": "golden", "uuid": GOLDEN, "domain": "team-a", "vms": ["one"] });
    assert_eq!(ask(&places, "POST", "/v1/shares", &body).0, 201);
    assert_eq!(get(&mut a, handle(1)).0, NO_SHARE);
    assert_eq!(open_verified(&mut a), NO_SHARE);
}
