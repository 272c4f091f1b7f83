// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A front end that never connects anew.

use std::os::fd::AsFd;

use rustix::process::Signal;

use super::host::{Host, Outside, wait_for};
use crate::front_end::{
    ADD_MEM_REG, FrontEnd, GET_FEATURES, GUEST, REM_MEM_REG, SET_VRING_CALL, USER, words,
};
use crate::request::{OK, ask_limits, create_pool, get, put, wait};

const MEMORY: u64 = 1 << 20;

pub(super) fn connect(host: &Host) -> FrontEnd {
    let mut a = FrontEnd::connect(&host.socket(), MEMORY);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    a
}

#[test]
fn a_front_end_goes_on_with_the_next_daemon() {
    for outside in [Outside::Holder, Outside::Manager] {
        go_on(outside);
    }
}

fn go_on(outside: Outside) {
    let mut host = Host::start(outside);
    let mut a = connect(&host);
    assert_eq!(create_pool(&mut a, 0), OK);
    for round in 0..6u8 {
        assert_eq!(put(&mut a, 0, round.into(), round), OK);
        let signals = [Signal::KILL, Signal::TERM];
        host.restart(*signals.get(usize::from(round % 2)).unwrap());
        for index in 0..=round {
            assert_eq!(get(&mut a, 0, index.into()), (OK, OK, index));
        }
    }
    // It is the front end's to end this.
    drop(a);
    if outside == Outside::Manager {
        // Page memory and the machine's note.
        wait_for(|| host.kept() == 2);
    }
    let mut b = connect(&host);
    assert_eq!(create_pool(&mut b, 0), OK, "another machine");
    assert!(!host.logged().contains("the connection ended"));
}

/// A message that nobody has read yet, a request, and a queue that is stopped.
#[test]
fn what_comes_while_no_daemon_is_there_is_done_by_the_next() {
    let mut host = Host::start(Outside::Holder);
    let mut a = connect(&host);
    assert_eq!(create_pool(&mut a, 0), OK);
    assert_eq!(put(&mut a, 0, 7, 1), OK);

    host.end(Signal::KILL);
    a.send(GET_FEATURES, 1, &[], &[]);
    ask_limits(&mut a, 0x4000);
    host.start_daemon();
    assert!(a.receive().is_some_and(|features| features != 0));
    wait(&a);

    a.stop_queue();
    host.restart(Signal::KILL);
    a.start();
    assert_eq!(get(&mut a, 0, 7), (OK, OK, 1));
    a.is_called();
    let event = a.call_event();
    assert_eq!(
        a.ask(SET_VRING_CALL, &words(&[1]), &[event.as_fd()]),
        Some(0)
    );
    a.is_called();
    host.restart(Signal::KILL);
    // Once, for what was used and not yet said.
    wait_for(|| a.is_called());
    assert_eq!(get(&mut a, 0, 7), (OK, OK, 1));
}

/// Regions of memory that were added and removed.
#[test]
fn memory_is_what_it_was_at_last() {
    let mut host = Host::start(Outside::Holder);
    let mut a = connect(&host);
    assert_eq!(create_pool(&mut a, 0), OK);
    // All of them are one page of the file.
    let region = |nth: u64| {
        let at = MEMORY + 0x1000 * nth;
        words(&[0, GUEST + at, 0x1000, USER + at, 0x8000])
    };
    let file = a.memory.try_clone().unwrap();
    for nth in 0..3 {
        let added = a.ask(ADD_MEM_REG, &region(nth), &[file.as_fd()]);
        assert_eq!(added, Some(0));
    }
    assert_eq!(a.ask(REM_MEM_REG, &region(1), &[]), Some(0));
    host.restart(Signal::KILL);
    assert_eq!(put(&mut a, 0, 7, 1), OK);
    for (nth, is_there) in [(0, true), (1, false), (2, true)] {
        ask_limits(&mut a, MEMORY + 0x1000 * nth);
        wait(&a);
        assert_eq!(a.used_bytes() > 0, is_there, "{nth}");
    }
}
