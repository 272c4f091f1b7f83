// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A daemon with a fault of its own: it panics, makes a system call that is not allowed, or
//! the system refuses it something (src/faults.rs). The machine `a` is there beside one
//! that meets the fault.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use tempfile::TempDir;

use super::added::Places;
use super::connection::connect;
use super::host::{Host, Outside, wait_for};
use crate::front_end::{FrontEnd, GET_FEATURES, SET_DEVICE_STATE_FD, pair};
use crate::request::{ANSWER, OK, ask_limits, create_pool, get, put, wait};

const MEMORY: u64 = 1 << 20;

/// Threads that a fault may be on, and those that work for a machine.
const PLACES: [&str; 3] = ["main", "control", "compressor"];
const MACHINE_PLACES: [&str; 4] = ["queue", "relay", "messages", "image"];

/// What a test is about.
struct Bed {
    places: Places,
    /// With the file that has the fault happen.
    folder: TempDir,
    host: Host,
    a: FrontEnd,
}

impl Bed {
    /// A daemon has a page of `a`. The next one goes wrong.
    fn new(fault: &str, place: &str, options: &[&str]) -> Self {
        let (places, folder) = (Places::new(), tempfile::tempdir().unwrap());
        let faulty = format!("name=faulty,socket={}", folder.path().join("f").display());
        let options = [&["--vm", &faulty], options].concat();
        let mut host = places.host_with(Outside::Holder, &options);
        let mut a = connect(&host);
        assert_eq!(create_pool(&mut a, 0), OK);
        assert_eq!(put(&mut a, 0, 7, 1), OK);
        let file = folder.path().join("now");
        host.set_fault(Some(format!("{fault} {place} {}", file.display())));
        host.restart(Signal::TERM);
        assert_eq!(get(&mut a, 0, 7), (OK, OK, 1));
        assert_eq!(put(&mut a, 0, 8, 2), OK);
        Self {
            places,
            folder,
            host,
            a,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("f")
    }

    /// Has it happen.
    fn happen(&self, place: &str) -> Option<FrontEnd> {
        std::fs::write(self.folder.path().join("now"), "").unwrap();
        if place == "control" {
            self.places.answer("GET", "/v1/vms", "");
        }
        if place == "queue" {
            let mut faulty = FrontEnd::connect(&self.socket(), MEMORY);
            assert_eq!(faulty.share_memory(MEMORY), Some(0));
            faulty.start();
            ask_limits(&mut faulty, ANSWER);
            return Some(faulty);
        }
        if place == "image" {
            let mut faulty = FrontEnd::connect(&self.socket(), MEMORY);
            let (_, far) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            faulty.send(SET_DEVICE_STATE_FD, 1, &pair(0, 0), &[far.as_fd()]);
            return Some(faulty);
        }
        MACHINE_PLACES.contains(&place).then(|| {
            let mut faulty = FrontEnd::to(&self.socket());
            faulty.send(GET_FEATURES, 1, &[], &[]);
            faulty
        })
    }

    /// What was acknowledged is there with a daemon that works.
    fn check(&mut self) {
        self.host.set_fault(None);
        self.host.start_daemon();
        assert_eq!(get(&mut self.a, 0, 7), (OK, OK, 1));
        assert_eq!(get(&mut self.a, 0, 8), (OK, OK, 2));
        assert!(self.a.is_connected());
    }
}

#[test]
fn panic_on_any_thread_ends_the_daemon_and_loses_nothing() {
    for place in PLACES.into_iter().chain(MACHINE_PLACES) {
        eprintln!("{place}");
        let mut bed = Bed::new("panic", place, &[]);
        let _faulty = bed.happen(place);
        let status = bed.host.wait_for_end();
        let abort = Signal::ABORT.as_raw();
        assert_eq!(status.signal(), Some(abort), "{place}: {status}");
        let logged = bed.host.logged();
        assert!(logged.contains("a test has asked for it"), "{logged}");
        assert!(logged.contains("please report this"), "{logged}");
        bed.check();
    }
}

#[test]
fn system_call_that_no_thread_has_a_use_for_ends_the_daemon_and_loses_nothing() {
    for place in PLACES.into_iter().chain(MACHINE_PLACES) {
        eprintln!("{place}");
        let mut bed = Bed::new("call", place, &[]);
        let _faulty = bed.happen(place);
        let status = bed.host.wait_for_end();
        assert_eq!(status.code(), Some(1), "{place}: {status}");
        let logged = bed.host.logged();
        // getppid(2).
        assert!(logged.contains("made system call 0110"), "{logged}");
        assert!(logged.contains("please report this"), "{logged}");
        bed.check();
    }
}

/// And goes on where filters are off.
#[test]
fn system_call_is_made_without_filters() {
    for place in ["main", "queue"] {
        let mut bed = Bed::new("call", place, &["--seccomp", "off"]);
        let faulty = bed.happen(place);
        if let Some(mut faulty) = faulty {
            wait(&faulty);
            assert_eq!(create_pool(&mut faulty, 0), OK);
        }
        assert_eq!(bed.places.ask("GET", "/v1/vms", ""), 200);
        assert_eq!(get(&mut bed.a, 0, 8), (OK, OK, 2));
        assert!(bed.host.is_running());
    }
}

/// One that brings the daemon down again and again is not served for a while, and others are.
#[test]
fn machine_over_which_daemons_crash_waits() {
    let mut bed = Bed::new("panic", "queue", &[]);
    let mut faulty = bed.happen("queue").unwrap();
    bed.host.wait_for_end();
    // Its connection is taken over, with the same end.
    let began = Instant::now();
    bed.host.spawn_daemon();
    bed.host.wait_for_end();
    bed.check();
    let logged = bed.host.logged();
    // What the daemon before has said last may be lost with it.
    let (_, since) = logged.split_once("has crashed 2 times").expect(&logged);
    // It waits for ten.
    if began.elapsed() < Duration::from_secs(5) {
        let is_served = since.contains("faulty: took over its front end");
        assert!(!is_served, "{logged}");
    }
    wait(&faulty);
    assert_eq!(create_pool(&mut faulty, 0), OK);
    assert_eq!(put(&mut faulty, 0, 1, 1), OK);
    assert_eq!(put(&mut bed.a, 0, 9, 3), OK);
}

/// A front end that was left by the daemon before is gone on with when the system has what is
/// needed for that.
#[test]
fn front_end_that_cannot_be_taken_over_yet_is_later() {
    for (place, says) in [
        ("thread", "cannot start a thread"),
        ("connection", "a front end cannot be served"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("now");
        let mut host = Host::start(Outside::Holder);
        let mut a = connect(&host);
        assert_eq!(create_pool(&mut a, 0), OK);
        assert_eq!(put(&mut a, 0, 7, 1), OK);
        host.set_fault(Some(format!("fail {place} {}", file.display())));
        host.restart(Signal::KILL);
        // More than once.
        wait_for(|| host.logged().matches(says).count() > 1);
        assert!(a.is_connected());
        std::fs::write(&file, "").unwrap();
        assert_eq!(get(&mut a, 0, 7), (OK, OK, 1));
        assert!(a.is_connected());
    }
}
