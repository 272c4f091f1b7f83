// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A keeper that ends, or does not answer any more. The daemon goes on without it.

use std::os::fd::AsFd;

use super::added::Places;
use super::connection::connect;
use super::host::{Host, Outside, wait_for};
use crate::front_end::{ADD_MEM_REG, FrontEnd, GUEST, USER, words};
use crate::request::{OK, create_pool, get, put};

const MEMORY: u64 = 1 << 20;

/// A message with a descriptor, which is to be kept.
fn add_memory(a: &mut FrontEnd, nth: u64) -> Option<u64> {
    let at = MEMORY + 0x1000 * nth;
    let region = words(&[0, GUEST + at, 0x1000, USER + at, 0x8000]);
    let file = a.memory.try_clone().unwrap();
    a.ask(ADD_MEM_REG, &region, &[file.as_fd()])
}

/// Requests and messages are answered as if nothing was.
fn check(a: &mut FrontEnd) {
    assert_eq!(get(a, 0, 7), (OK, OK, 1));
    for nth in 0..5 {
        assert_eq!(add_memory(a, nth), Some(0));
        assert_eq!(put(a, 0, 8 + nth, 2), OK);
    }
    a.stop_queue();
    a.start();
    assert_eq!(get(a, 0, 8), (OK, OK, 2));
    assert!(a.is_connected());
}

fn set_up(host: &Host) -> FrontEnd {
    let mut a = connect(host);
    assert_eq!(create_pool(&mut a, 0), OK);
    assert_eq!(put(&mut a, 0, 7, 1), OK);
    a
}

#[test]
fn holder_that_ends_ends_nothing_else() {
    let places = Places::new();
    let mut host = places.host(Outside::Holder);
    let mut a = set_up(&host);
    places.add();
    let mut web1 = places.connect();
    assert_eq!(create_pool(&mut web1, 0), OK);
    assert_eq!(put(&mut web1, 0, 7, 1), OK);
    host.end_holder();
    wait_for(|| host.logged().contains("the holder is gone"));
    check(&mut a);
    wait_for(|| host.logged().contains("does not outlive the daemon"));
    // One that connects now.
    drop(a);
    let mut a = set_up(&host);
    check(&mut a);
    // Machines that come and go.
    check(&mut web1);
    assert_eq!(places.ask("DELETE", "/v1/vms/web1", ""), 204);
    wait_for(|| !web1.is_connected());
    places.add();
    let mut web1 = places.connect();
    assert_eq!(create_pool(&mut web1, 0), OK);
    assert_eq!(put(&mut web1, 0, 7, 1), OK);
    check(&mut web1);
    assert!(host.is_running());
    assert_eq!(host.logged().matches("the holder is gone").count(), 1);
}

/// The front end's patience is shorter than that of several questions.
#[test]
fn manager_that_does_not_answer_holds_nobody_up_for_long() {
    let mut host = Host::start(Outside::Manager);
    let mut a = set_up(&host);
    host.get_stuck();
    check(&mut a);
    wait_for(|| host.logged().contains("does not outlive the daemon"));
    drop(a);
    let mut a = set_up(&host);
    check(&mut a);
    assert!(host.is_running());
}

/// While a front end is just setting up.
#[test]
fn keeper_that_goes_while_a_session_is_set_up() {
    for outside in [Outside::Holder, Outside::Manager] {
        let mut host = Host::start(outside);
        let mut a = FrontEnd::connect(&host.socket(), MEMORY);
        if outside == Outside::Holder {
            host.end_holder();
        } else {
            host.get_stuck();
        }
        assert_eq!(a.share_memory(MEMORY), Some(0));
        a.start();
        assert_eq!(create_pool(&mut a, 0), OK);
        assert_eq!(put(&mut a, 0, 7, 1), OK);
        check(&mut a);
        assert!(host.is_running());
    }
}
