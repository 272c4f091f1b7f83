// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A machine that is cloned while it is paused: both have what was there, and go their own ways.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::front_end::FrontEnd;
use crate::request::{OK, create_pool, get, put};
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

fn clone(places: &Places, of: &str, to: &str) -> (u16, Value) {
    let path = format!("/v1/vms/{of}/clone");
    ask(places, "POST", &path, &json!({ "to": to }))
}

fn connect(socket: &Path, memory: &File) -> FrontEnd {
    let mut a = FrontEnd::connect_with(socket, memory.try_clone().unwrap());
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    a
}

/// A machine `of` with pages.
fn begin(places: &Places) -> FrontEnd {
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
