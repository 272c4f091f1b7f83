// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A machine that is cloned while it is paused: both have what was there, and go their own ways.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::front_end::FrontEnd;
use crate::request::{
    ANSWER, EXISTS, FLUSH, FLUSH_OBJECT, OK, create_pool, destroy_pool, get, header, put, run,
};
use crate::restart::added::Places;
use crate::restart::host::Outside;
use crate::saved::{MEMORY, check, copy, fill, pause};

/// The pool is not there.
const NO_POOL: u8 = 0x42;
/// A page is not there.
const MISS: u8 = 16;

/// The status of an answer, and what it says.
pub(crate) fn ask(places: &Places, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = places.answer(method, path, &body.to_string());
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, said) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(said).unwrap_or_default())
}

/// Another machine of the host, and where it connects.
pub(crate) fn add(places: &Places, name: &str, quota: &str) -> PathBuf {
    let body = json!({ "name": name, "quota": quota });
    let (status, said) = ask(places, "POST", "/v1/vms", &body);
    assert_eq!(status, 201, "{said}");
    said.get("socket").and_then(Value::as_str).unwrap().into()
}

pub(crate) fn clone(places: &Places, of: &str, to: &str) -> (u16, Value) {
    let path = format!("/v1/vms/{of}/clone");
    ask(places, "POST", &path, &json!({ "to": to }))
}

pub(crate) fn connect(socket: &Path, memory: &File) -> FrontEnd {
    let mut a = FrontEnd::connect_with(socket, memory.try_clone().unwrap());
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    a
}

/// A machine `of` with pages.
pub(crate) fn begin(places: &Places) -> FrontEnd {
    let socket = add(places, "of", "16M");
    let memory = tempfile::tempfile().unwrap();
    memory.set_len(MEMORY).unwrap();
    let mut a = connect(&socket, &memory);
    fill(&mut a);
    a
}

#[test]
fn both_have_what_was_there_and_then_differ() {
    let places = Places::new();
    let host = places.host(Outside::Store);
    let mut a = begin(&places);
    pause(&mut a);
    let memory = copy(&a.memory);
    for to in ["one", "two"] {
        let socket = add(&places, to, "16M");
        let (status, said) = clone(&places, "of", to);
        assert_eq!(status, 200, "{said}");
        assert_eq!(said.get("pages"), Some(&json!(601)), "{said}");
        // Again: what it has goes.
        assert_eq!(clone(&places, "of", to).0, 200);
        let mut b = connect(&socket, &copy(&memory));
        check(&mut b);
        assert_eq!(put(&mut b, 0, 3, 77), OK);
        assert_eq!(put(&mut b, 0, 1000, 78), OK);
        assert_eq!(get(&mut b, 0, 3), (OK, OK, 77));
    }
    a.start();
    assert_eq!(get(&mut a, 0, 1000).1, MISS);
    check(&mut a);
    assert_eq!(put(&mut a, 0, 3, 1), OK);
    // Copies share nothing.
    pause(&mut a);
    let socket = add(&places, "copy", "16M");
    let body = json!({ "to": "copy", "copy": true });
    let (status, said) = ask(&places, "POST", "/v1/vms/of/clone", &body);
    assert_eq!(
        (status, said.get("pages")),
        (200, Some(&json!(601))),
        "{said}"
    );
    assert_eq!(number(&places, "copy", "shared_pages"), 0);
    let mut copied = connect(&socket, &copy(&a.memory));
    assert_eq!(get(&mut copied, 0, 3), (OK, OK, 1));
    a.start();
    // A clone of a clone, whose front end has left.
    while host.logged().matches("the front end left").count() < 2 {
        std::thread::yield_now();
    }
    let socket = add(&places, "three", "16M");
    assert_eq!(clone(&places, "two", "three").0, 200);
    // With memory of another moment it has none of the pages.
    let mut c = connect(&socket, &copy(&memory));
    assert_eq!(get(&mut c, 0, 3).0, NO_POOL);
    assert_eq!(get(&mut a, 0, 3), (OK, OK, 1));
}

#[test]
fn what_cannot_be_cloned_is_refused_and_leaves_nothing() {
    let places = Places::new();
    let _host = places.host(Outside::Store);
    let mut a = begin(&places);
    let socket = add(&places, "clone", "16M");
    let (status, said) = clone(&places, "of", "clone");
    assert_eq!(status, 409, "it runs: {said}");
    pause(&mut a);
    let memory = copy(&a.memory);
    let mut b = FrontEnd::connect(&socket, MEMORY);
    assert_eq!(b.share_memory(MEMORY), Some(0));
    b.start();
    assert_eq!(create_pool(&mut b, 0), OK);
    assert_eq!(put(&mut b, 0, 1, 1), OK);
    let (status, said) = clone(&places, "of", "clone");
    assert_eq!(status, 409, "a front end is connected: {said}");
    assert_eq!(get(&mut b, 0, 1), (OK, OK, 1));

    let small = add(&places, "small", "1M");
    let (status, said) = clone(&places, "of", "small");
    assert_eq!(status, 409, "beyond its quota: {said}");
    let mut b = connect(&small, &copy(&memory));
    assert_eq!(get(&mut b, 0, 3).0, NO_POOL);
    a.start();
    check(&mut a);
}

/// Pages that a machine has in pool 0, by index: the byte that each is full of.
type Pages = BTreeMap<u64, u8>;

/// How many indices are used.
const INDICES: u64 = 96;

/// Changes what a machine has, and what it is said to have.
fn change(a: &mut FrontEnd, pages: &mut Pages, random: &mut fastrand::Rng) {
    let index = random.u64(..INDICES);
    match random.u8(..24) {
        0 => {
            assert_eq!(
                run(a, &header(FLUSH_OBJECT, 0, 0, 0), &[(ANSWER, 16, true)]),
                OK
            );
            pages.clear();
        }
        1 => {
            assert_eq!(destroy_pool(a, 0), OK);
            assert_eq!(create_pool(a, 0), OK);
            pages.clear();
        }
        2..8 => {
            let count = random.u32(1..8);
            assert_eq!(
                run(a, &header(FLUSH, 0, index, count), &[(ANSWER, 16, true)]),
                OK
            );
            pages.retain(|at, _| !(index..index + u64::from(count)).contains(at));
        }
        _ => {
            let byte = random.u8(1..);
            assert_eq!(put(a, 0, index, byte), OK);
            pages.insert(index, byte);
        }
    }
}

/// That a machine has these pages, and no others.
fn has(a: &mut FrontEnd, pages: &Pages) {
    for index in 0..INDICES {
        let (_, status, byte) = get(a, 0, index);
        match pages.get(&index) {
            Some(expected) => assert_eq!((status, byte), (OK, *expected), "{index}"),
            None => assert_eq!(status, MISS, "{index}"),
        }
    }
}

/// A number of a machine's statistics.
pub(crate) fn number(places: &Places, name: &str, what: &str) -> u64 {
    let (status, said) = ask(places, "GET", "/v1/stats", &json!({}));
    assert_eq!(status, 200, "{said}");
    let number = said.pointer(&format!("/vms/{name}/{what}"));
    number.and_then(Value::as_u64).unwrap()
}

#[test]
fn clones_and_their_sources_go_on_with_the_next_daemon() {
    for (outside, seed) in [(Outside::Holder, 1), (Outside::Manager, 2)] {
        let mut random = fastrand::Rng::with_seed(seed);
        let places = Places::new();
        let mut host = places.host(outside);
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(MEMORY).unwrap();
        let mut source = connect(&add(&places, "of", "16M"), &memory);
        assert_eq!(create_pool(&mut source, 0), OK);
        let mut all = vec![(source, Pages::new())];
        for round in 0..6 {
            for _ in 0..20 {
                for (a, pages) in &mut all {
                    change(a, pages, &mut random);
                }
            }
            // The last that there is, which may be a clone.
            let (a, pages) = all.last_mut().unwrap();
            pause(a);
            let name = format!("clone{round}");
            let socket = add(&places, &name, "16M");
            let of = match round {
                0 => "of".to_owned(),
                _ => format!("clone{}", round - 1),
            };
            let (status, said) = clone(&places, &of, &name);
            assert_eq!(status, 200, "{said}");
            assert_eq!(said.get("pages"), Some(&json!(pages.len())), "{said}");
            let (of_clone, memory) = (pages.clone(), copy(&a.memory));
            if round % 2 == 1 {
                // Neither has changed anything yet.
                host.restart(Signal::KILL);
            }
            let (a, _) = all.last_mut().unwrap();
            a.start();
            all.push((connect(&socket, &memory), of_clone));
            for (a, pages) in &mut all {
                has(a, pages);
                change(a, pages, &mut random);
            }
            host.restart([Signal::KILL, Signal::TERM][round % 2]);
            for (nth, (a, pages)) in all.iter_mut().enumerate() {
                has(a, pages);
                let name = nth.checked_sub(1).map(|nth| format!("clone{nth}"));
                let name = name.as_deref().unwrap_or("of");
                assert_eq!(
                    number(&places, name, "persistent_pages"),
                    pages.len() as u64
                );
            }
        }
    }
}

#[test]
fn a_source_that_is_removed_leaves_its_pages_to_its_clones_alone() {
    for outside in [Outside::Holder, Outside::Manager] {
        let places = Places::new();
        let mut host = places.host(outside);
        let mut a = begin(&places);
        pause(&mut a);
        let memory = copy(&a.memory);
        let socket = add(&places, "clone", "16M");
        assert_eq!(clone(&places, "of", "clone").0, 200);
        assert_eq!(places.ask("DELETE", "/v1/vms/of", ""), 204);
        let mut b = connect(&socket, &memory);
        for _ in 0..2 {
            // Another one with its name, by which the store knows pages that the clone has.
            let socket = add(&places, "of", "16M");
            for _ in 0..2 {
                let mut of = FrontEnd::connect(&socket, MEMORY);
                assert_eq!(of.share_memory(MEMORY), Some(0));
                of.start();
                let made = create_pool(&mut of, 0);
                assert!([OK, EXISTS].contains(&made), "{made}");
                for index in 0..600 {
                    assert_eq!(get(&mut of, 0, index).1, MISS, "{index}");
                }
                drop(of);
                host.restart(Signal::KILL);
                check(&mut b);
            }
            assert_eq!(places.ask("DELETE", "/v1/vms/of", ""), 204);
            host.restart(Signal::KILL);
            check(&mut b);
        }
        // With the last that has them they go.
        assert_eq!(places.ask("DELETE", "/v1/vms/clone", ""), 204);
        let (status, said) = ask(&places, "GET", "/v1/stats", &json!({}));
        assert_eq!(status, 200, "{said}");
        assert_eq!(said.pointer("/store/held_bytes"), Some(&json!(0)), "{said}");
    }
}

#[test]
fn pages_are_there_once_and_count_for_each() {
    let places = Places::new();
    let _host = places.host(Outside::Store);
    let mut a = begin(&places);
    pause(&mut a);
    let alone = number(&places, "of", "held_bytes");
    let (_, said) = ask(&places, "GET", "/v1/tiers", &json!({}));
    assert_eq!(said.get("shared"), Some(&Value::Null), "{said}");
    for nth in 0..20 {
        let name = format!("clone{nth}");
        add(&places, &name, "16M");
        let (status, said) = clone(&places, "of", &name);
        assert_eq!(status, 200, "{said}");
        assert_eq!(number(&places, &name, "shared_pages"), 601);
        let held = number(&places, &name, "held_bytes");
        // What a segment has beside pages does not count.
        assert!(
            held > alone / 2 && held <= alone,
            "{held}, and {alone} before"
        );
    }
    let (status, said) = ask(&places, "GET", "/v1/stats", &json!({}));
    assert_eq!(status, 200, "{said}");
    let held = said.pointer("/store/held_bytes").and_then(Value::as_u64);
    assert!(
        held.unwrap() < 2 * alone,
        "{held:?} for twenty, {alone} for one"
    );
    // They have a line of their own, and are in no machine's.
    let (_, said) = ask(&places, "GET", "/v1/tiers", &json!({}));
    let pages = |of: &Value| of.get("memory_pages").and_then(Value::as_u64).unwrap();
    assert_eq!(pages(said.get("shared").unwrap()), 601, "{said}");
    let vms = said.get("vms").and_then(Value::as_array).unwrap();
    assert!(vms.iter().all(|vm| pages(vm) == 0), "{said}");
}
