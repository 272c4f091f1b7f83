// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What others do with a machine, or with its clone, in the very moment in which it is cloned.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cloned::{add, ask, begin, clone, connect, number};
use crate::front_end::FrontEnd;
use crate::request::{OK, create_pool, get, put};
use crate::restart::added::Places;
use crate::restart::host::{Host, Outside, wait_for};
use crate::saved::{check, copy, pause};

/// The pool is not there.
const NO_POOL: u8 = 0x42;

/// A daemon that holds up each clone: once its source is about to become a base (`clone`), or once it
/// has, and the clone is about to go on over it (`share`).
struct Held {
    host: Host,
    folder: TempDir,
}

impl Held {
    fn start(places: &Places, place: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut host = places.host(Outside::Store);
        let file = folder.path().join("go");
        host.set_fault(Some(format!("hold {place} {}", file.display())));
        host.restart(Signal::KILL);
        Self { host, folder }
    }

    /// Waits until a clone is held up.
    fn wait(&self) {
        wait_for(|| self.host.logged().contains("a test holds up: "));
    }

    /// Waits until what would be a fault has had the time to happen.
    fn look(&self, is_over: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until && !is_over() {
            std::thread::yield_now();
        }
        assert!(!is_over(), "it did not wait");
    }

    fn go_on(&self) {
        std::fs::write(self.folder.path().join("go"), "").unwrap();
    }
}

#[test]
fn a_front_end_that_comes_or_goes_on_waits_and_what_it_puts_is_its_machines_alone() {
    let all = ["clone", "share"].map(|place| [(place, false), (place, true)]);
    for (place, leaves) in all.into_iter().flatten() {
        let places = Places::new();
        let held = Held::start(&places, place);
        let mut a = begin(&places);
        pause(&mut a);
        let (memory, of) = (copy(&a.memory), a.memory.try_clone().unwrap());
        let (_, said) = ask(&places, "GET", "/v1/vms/of", &json!({}));
        let socket = said.get("socket").unwrap().as_str().unwrap().to_owned();
        let to = add(&places, "clone", "16M");
        let a = if leaves {
            drop(a);
            wait_for(|| held.host.logged().contains("the front end left"));
            None
        } else {
            Some(a)
        };
        let mut a = std::thread::scope(|scope| {
            let cloning = scope.spawn(|| clone(&places, "of", "clone"));
            held.wait();
            let front_end = scope.spawn(|| -> FrontEnd {
                let mut a = match a {
                    Some(mut a) => {
                        a.start();
                        a
                    }
                    None => connect(socket.as_ref(), &of),
                };
                assert_eq!(create_pool(&mut a, 9), OK);
                assert_eq!(put(&mut a, 9, 1, 91), OK);
                assert_eq!(put(&mut a, 0, 1000, 92), OK);
                // What it has replaced alone stays with its clone.
                for index in 0..600 {
                    assert_eq!(put(&mut a, 0, index, 93), OK);
                }
                a
            });
            held.look(|| front_end.is_finished());
            held.go_on();
            let (status, said) = cloning.join().unwrap();
            assert_eq!(status, 200, "{said}");
            assert_eq!(said.get("pages"), Some(&json!(601)), "{said}");
            front_end.join().unwrap()
        });
        assert_eq!(get(&mut a, 9, 1), (OK, OK, 91));
        assert_eq!(get(&mut a, 0, 1000), (OK, OK, 92));
        let mut b = connect(&to, &memory);
        assert_eq!(get(&mut b, 9, 1).0, NO_POOL);
        assert_ne!(get(&mut b, 0, 1000).1, OK);
        check(&mut b);
        for index in 0..600 {
            assert_eq!(get(&mut a, 0, index), (OK, OK, 93), "{index}");
        }
    }
}

#[test]
fn of_two_clones_that_are_to_be_one_machine_one_is_refused() {
    let places = Places::new();
    let held = Held::start(&places, "clone");
    let mut a = begin(&places);
    pause(&mut a);
    let memory = copy(&a.memory);
    let other = tempfile::tempfile().unwrap();
    other.set_len(crate::saved::MEMORY).unwrap();
    let mut other = connect(&add(&places, "other", "16M"), &other);
    assert_eq!(create_pool(&mut other, 0), OK);
    assert_eq!(put(&mut other, 0, 3, 33), OK);
    pause(&mut other);
    let to = add(&places, "clone", "16M");
    std::thread::scope(|scope| {
        let cloning = scope.spawn(|| clone(&places, "of", "clone"));
        held.wait();
        for of in ["other", "of"] {
            let (status, said) = clone(&places, of, "clone");
            let why = "clone: something else is being done for it; try again";
            assert_eq!(status, 409, "{said}");
            assert_eq!(said.get("error"), Some(&json!(why)));
        }
        held.go_on();
        assert_eq!(cloning.join().unwrap().0, 200);
    });
    let mut b = connect(&to, &memory);
    check(&mut b);
    for (mut machine, name) in [(a, "of"), (other, "other")] {
        machine.start();
        match name {
            "of" => check(&mut machine),
            _ => assert_eq!(get(&mut machine, 0, 3), (OK, OK, 33)),
        }
        let shared = number(&places, name, "shared_pages");
        assert_eq!(shared > 0, name == "of", "{shared}");
    }
}

#[test]
fn a_source_that_is_removed_meanwhile_leaves_its_pages_to_the_clone() {
    for place in ["clone", "share"] {
        removed_meanwhile(place);
    }
}

fn removed_meanwhile(place: &str) {
    let places = Places::new();
    let held = Held::start(&places, place);
    let mut a = begin(&places);
    pause(&mut a);
    let memory = copy(&a.memory);
    let to = add(&places, "clone", "16M");
    std::thread::scope(|scope| {
        let cloning = scope.spawn(|| clone(&places, "of", "clone"));
        held.wait();
        let removing = scope.spawn(|| places.ask("DELETE", "/v1/vms/of", ""));
        let conflict = |method, path: &str, body| {
            let (status, said) = ask(&places, method, path, &body);
            let said = said
                .get("error")
                .and_then(Value::as_str)
                .unwrap_or_default();
            status == 409 && said.contains("is being removed")
        };
        let name = json!({ "name": "of" });
        wait_for(|| conflict("PATCH", "/v1/vms/of", json!({ "weight": 7 })));
        // It waits for the clone, and nobody for it.
        assert!(conflict("DELETE", "/v1/vms/of", json!({})));
        assert!(conflict("POST", "/v1/vms", name));
        for path in ["/v1/vms", "/v1/vms/of", "/v1/stats"] {
            assert_eq!(places.ask("GET", path, ""), 200, "{path}");
        }
        add(&places, "another", "16M");
        assert_eq!(places.ask("DELETE", "/v1/vms/another", ""), 204);
        assert!(!removing.is_finished());
        held.go_on();
        assert_eq!(removing.join().unwrap(), 204);
        let (status, said) = cloning.join().unwrap();
        assert_eq!(status, 200, "{said}");
    });
    assert_eq!(places.ask("GET", "/v1/vms/of", ""), 404);
    let mut b = connect(&to, &memory);
    check(&mut b);
    drop(b);
    assert_eq!(places.ask("DELETE", "/v1/vms/clone", ""), 204);
    let (_, said) = ask(&places, "GET", "/v1/stats", &json!({}));
    assert_eq!(said.pointer("/store/held_bytes"), Some(&json!(0)), "{said}");
}
