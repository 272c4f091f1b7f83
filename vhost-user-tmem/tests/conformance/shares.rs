// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pools that several machines have: for whom the operator says, for as long as he says, and for nobody
//! else, whatever a driver asks for.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cloned::{add, ask};
use crate::front_end::FrontEnd;
use crate::request::{
    EPHEMERAL, EXISTS, OK, PERSISTENT, create_pool, create_pool_of, create_pool_with, destroy_pool,
    get, put,
};
use crate::restart::added::Places;
use crate::restart::host::Outside;

const MEMORY: u64 = 1 << 20;
/// Statuses.
pub(crate) const MISS: u8 = 0x10;
pub(crate) const UNSUPPORTED: u8 = 0x40;
const NO_POOL: u8 = 0x42;
const POOL_CONFLICT: u8 = 0x43;
pub(crate) const NO_SHARE: u8 = 0x46;
/// The flag of a share's pool.
pub(crate) const SHARED: u32 = 1;
pub(crate) const GOLDEN: &str = "6b1fbd2c-6ff4-4f0b-8f7a-3c1f0f6a2b11";
pub(crate) const GOLDEN_BYTES: u128 = 0x6b1f_bd2c_6ff4_4f0b_8f7a_3c1f_0f6a_2b11;

/// CREATE_POOL for a share.
pub(crate) fn open(a: &mut FrontEnd, pool: u32, kind: u32, flags: u32, share: u128) -> u8 {
    let mut spec = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    // A UUID's bytes are in the order in which it is written (RFC 9562, section 4).
    spec.extend(share.to_be_bytes());
    create_pool_with(a, pool, &spec)
}

fn open_golden(a: &mut FrontEnd, pool: u32) -> u8 {
    open(a, pool, EPHEMERAL, SHARED, GOLDEN_BYTES)
}

/// A machine of this domain, and its driver.
pub(crate) fn machine(places: &Places, name: &str, domain: &str) -> FrontEnd {
    let socket = add(places, name, "16M");
    set(
        places,
        &format!("/v1/vms/{name}"),
        json!({ "domain": domain }),
    );
    let mut a = FrontEnd::connect(&socket, MEMORY);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    a
}

pub(crate) fn set(places: &Places, path: &str, body: Value) {
    let (status, said) = ask(places, "PATCH", path, &body);
    assert_eq!(status, 200, "{said}");
}

fn share(places: &Places, vms: &[&str]) -> Value {
    let body = json!({ "name": "golden", "uuid": GOLDEN, "domain": "team-a", "vms": vms });
    let (status, said) = ask(places, "POST", "/v1/shares", &body);
    assert_eq!(status, 201, "{said}");
    said
}

pub(crate) fn shown(places: &Places, what: &str) -> u64 {
    let (_, said) = ask(places, "GET", "/v1/shares/golden", &Value::Null);
    said.get(what).and_then(Value::as_u64).unwrap()
}

#[test]
fn machines_that_are_named_have_a_share_together_and_others_do_not_find_it() {
    let places = Places::new();
    let _host = places.host(Outside::Store);
    let mut a = machine(&places, "one", "team-a");
    let mut b = machine(&places, "two", "team-a");
    let mut foreign = machine(&places, "foreign", "team-b");
    share(&places, &["one", "two"]);

    assert_eq!(open_golden(&mut a, 9), OK);
    assert_eq!(open_golden(&mut a, 9), EXISTS);
    assert_eq!(open_golden(&mut b, 3), OK);
    assert_eq!(put(&mut a, 9, 5, 77), OK);
    assert_eq!(get(&mut b, 3, 5), (OK, OK, 77));
    assert_eq!(get(&mut a, 9, 5), (OK, OK, 77));
    assert_eq!(put(&mut b, 3, 5, 78), OK);
    assert_eq!(get(&mut a, 9, 5), (OK, OK, 78));
    assert_eq!(
        (shown(&places, "pages"), shown(&places, "get_hits")),
        (1, 3)
    );

    // Of no machine's own, and charged to none.
    assert_eq!(create_pool_of(&mut a, 1, EPHEMERAL), OK);
    assert_eq!(get(&mut a, 1, 5).1, MISS);
    let (_, vm) = ask(&places, "GET", "/v1/vms/one", &Value::Null);
    assert_eq!(vm.get("ephemeral_pages"), Some(&json!(0)), "{vm}");

    // Whether it is there nobody else can tell.
    for id in [GOLDEN_BYTES, 0, 1, u128::MAX] {
        for pool in [0, 9, 63] {
            assert_eq!(open(&mut foreign, pool, EPHEMERAL, SHARED, id), NO_SHARE);
            assert_eq!(get(&mut foreign, pool, 5).0, NO_POOL);
        }
        if id != GOLDEN_BYTES {
            assert_eq!(open(&mut a, 20, EPHEMERAL, SHARED, id), NO_SHARE);
        }
    }
    // Nothing private is made of it, nor is anything taken for it.
    assert_eq!(
        open(&mut a, 20, PERSISTENT, SHARED, GOLDEN_BYTES),
        UNSUPPORTED
    );
    assert_eq!(
        open(&mut a, 20, EPHEMERAL, SHARED | 4, GOLDEN_BYTES),
        UNSUPPORTED
    );
    assert_eq!(get(&mut a, 20, 5).0, NO_POOL);
    assert_eq!(open(&mut foreign, 20, EPHEMERAL, 0, GOLDEN_BYTES), OK);
    assert_eq!(get(&mut foreign, 20, 5), (OK, MISS, 0));
    assert_eq!(open_golden(&mut a, 1), POOL_CONFLICT);
    assert_eq!(create_pool(&mut a, 9), POOL_CONFLICT);
    assert_eq!(destroy_pool(&mut a, 9), OK);
    assert_eq!(get(&mut b, 3, 5), (OK, OK, 78));
}

#[test]
fn what_the_operator_takes_away_is_gone_at_once() {
    let places = Places::new();
    let _host = places.host(Outside::Store);
    let mut a = machine(&places, "one", "team-a");
    let mut b = machine(&places, "two", "team-a");
    share(&places, &["one", "two"]);
    let takes: [&dyn Fn(); 3] = [
        &|| set(&places, "/v1/shares/golden", json!({ "vms": ["two"] })),
        &|| set(&places, "/v1/vms/one", json!({ "domain": "team-b" })),
        &|| assert_eq!(places.ask("DELETE", "/v1/shares/golden", ""), 204),
    ];
    for take in takes {
        assert!([OK, EXISTS].contains(&open_golden(&mut a, 9)));
        assert!([OK, EXISTS].contains(&open_golden(&mut b, 9)));
        put(&mut a, 9, 5, 77);
        assert_eq!(get(&mut b, 9, 5), (OK, OK, 77));
        take();
        assert_eq!(get(&mut a, 9, 5).0, NO_SHARE);
        assert_eq!(put(&mut a, 9, 5, 1), NO_SHARE);
        assert_eq!(open_golden(&mut a, 9), NO_SHARE);
        if places.ask("GET", "/v1/shares/golden", "") == 404 {
            assert_eq!(get(&mut b, 9, 5).0, NO_SHARE);
            break;
        }
        assert_eq!(get(&mut b, 9, 5), (OK, OK, 77));
        set(&places, "/v1/vms/one", json!({ "domain": "team-a" }));
        set(
            &places,
            "/v1/shares/golden",
            json!({ "vms": ["one", "two"] }),
        );
        assert_eq!(get(&mut a, 9, 5), (OK, OK, 77));
    }
    // One of the same UUID has none of its pages.
    share(&places, &["one"]);
    assert_eq!(open_golden(&mut a, 9), EXISTS);
    assert_eq!(get(&mut a, 9, 5), (OK, MISS, 0));
    assert_eq!(get(&mut b, 9, 5).0, NO_SHARE);
    // The next machine of a name is another one.
    assert_eq!(places.ask("DELETE", "/v1/vms/one", ""), 204);
    drop(a);
    let mut a = machine(&places, "one", "team-a");
    assert_eq!(open_golden(&mut a, 9), NO_SHARE);
}

#[test]
fn a_share_is_there_for_the_next_daemon_and_asked_for_again() {
    for outside in [Outside::Holder, Outside::Manager] {
        let places = Places::new();
        let mut host = places.host(outside);
        let mut a = machine(&places, "one", "team-a");
        let mut b = machine(&places, "two", "team-a");
        share(&places, &["one"]);
        assert_eq!(create_pool(&mut a, 0), OK);
        for signal in [Signal::KILL, Signal::TERM, Signal::KILL] {
            assert_eq!(open_golden(&mut a, 9), OK, "{outside:?}");
            assert_eq!(put(&mut a, 0, 1, 7), OK);
            // What the last daemon had is gone.
            assert_eq!(get(&mut a, 9, 5), (OK, MISS, 0));
            assert_eq!(put(&mut a, 9, 5, 77), OK);
            host.restart(signal);
            // The driver's own pools are there; this one it has to ask for again.
            assert_eq!(get(&mut a, 9, 5).0, NO_POOL, "{outside:?}");
            assert_eq!(get(&mut a, 0, 1), (OK, OK, 7));
            assert_eq!(open_golden(&mut b, 9), NO_SHARE);
        }
    }
}

/// Drivers that put, get and flush while the operator gives and takes: each answer is one that is possible,
/// and no page is of another handle.
#[test]
fn a_share_that_comes_and_goes_under_load_gives_no_wrong_page() {
    let places = Places::new();
    let _host = places.host(Outside::Store);
    let drivers = ["one", "two"].map(|name| machine(&places, name, "team-a"));
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for mut driver in drivers {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut hits = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) || hits == 0 {
                    let opened = open_golden(&mut driver, 9);
                    assert!([OK, EXISTS, NO_SHARE].contains(&opened), "{opened}");
                    for index in 0..8 {
                        let byte = 100 + u8::try_from(index).unwrap();
                        let status = put(&mut driver, 9, index, byte);
                        // The pool may go while the page is put.
                        let may = [OK, NO_POOL, NO_SHARE];
                        assert!(may.contains(&status), "{status:x}");
                        match get(&mut driver, 9, index) {
                            (OK, OK, found) => {
                                assert_eq!(found, byte);
                                hits += 1;
                            }
                            (OK, status, _) => assert_eq!(status, MISS),
                            (status, ..) => assert!([NO_POOL, NO_SHARE].contains(&status)),
                        }
                    }
                }
            });
        }
        for _ in 0..30 {
            share(&places, &["one", "two"]);
            set(&places, "/v1/shares/golden", json!({ "vms": ["two"] }));
            set(
                &places,
                "/v1/shares/golden",
                json!({ "vms": ["one", "two"], "quota": "2M" }),
            );
            assert_eq!(places.ask("DELETE", "/v1/shares/golden", ""), 204);
        }
        share(&places, &["one", "two"]);
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
