// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon is killed once at each of its system calls, before and after it, in a short
//! session. What was answered before is there afterwards.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};

use super::host::{Host, Outside, wait_for};
use crate::front_end::FrontEnd;
use crate::request::{EPHEMERAL, EXISTS, OK, create_pool, create_pool_of, destroy_pool, get, put};

const MEMORY: u64 = 1 << 20;
/// The pool is not there.
const NO_POOL: u8 = 0x42;

/// Runs a daemon until the stop with number `at` of its system calls, and kills it there;
/// stops that there were.
fn run_until(command: &mut Command, at: u64, is_over: &AtomicBool) -> u64 {
    #[expect(clippy::zombie_processes, reason = "its tracer waits for it below")]
    let child = command.spawn().unwrap();
    let daemon = Pid::from_raw(child.id().try_into().unwrap());
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
    ptrace::seize(daemon, options).unwrap();
    ptrace::interrupt(daemon).unwrap();
    let mut stops = 0;
    loop {
        // Other tests wait for children of their own.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let (thread, signal) = match waitpid(None, Some(flags)).unwrap() {
            WaitStatus::PtraceSyscall(thread) => {
                stops += 1;
                if stops == at || is_over.load(SeqCst) {
                    nix::sys::signal::kill(daemon, Signal::SIGKILL).unwrap();
                }
                (thread, None)
            }
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            WaitStatus::PtraceEvent(thread, ..) => (thread, None),
            WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, ..) => {
                if ended == daemon {
                    return stops;
                }
                continue;
            }
            _ => continue,
        };
        // It may be dead by now.
        let _ = ptrace::syscall(thread, signal);
    }
}

/// Goes through the session; how often its connection ended, and of these, after there was
/// an answer.
fn script(socket: &Path) -> (u32, u32) {
    let memory = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
    memory.set_len(MEMORY).unwrap();
    let mut a = FrontEnd::connect_and_again(socket, memory, 1);
    let is_there = |status| assert!([OK, EXISTS].contains(&status), "{status:#x}");
    is_there(create_pool(&mut a, 0));
    is_there(create_pool_of(&mut a, 1, EPHEMERAL));
    for index in 0..4u8 {
        assert_eq!(put(&mut a, 0, index.into(), index + 1), OK);
    }
    assert_eq!(put(&mut a, 1, 9, 9), OK);
    assert_eq!(put(&mut a, 0, 2, 8), OK);
    a.turn();
    for (index, byte) in [(0, 1), (1, 2), (2, 8), (3, 4)] {
        assert_eq!(get(&mut a, 0, index), (OK, OK, byte), "{index}");
    }
    let (_, status, byte) = get(&mut a, 1, 9);
    assert!(status != OK || byte == 9);
    assert!([OK, NO_POOL].contains(&destroy_pool(&mut a, 1)));
    is_there(create_pool(&mut a, 1));
    assert_eq!(put(&mut a, 1, 0, 7), OK);
    assert_eq!(get(&mut a, 1, 0), (OK, OK, 7));
    assert_eq!(get(&mut a, 0, 3), (OK, OK, 4));
    assert_eq!(a.ends_unasked, 0, "a request ended the connection");
    (a.ends, a.ends_later)
}

/// A session over a socket: how often its connection ended, and of these, after there was an
/// answer.
type Session = fn(&Path) -> (u32, u32);

/// Goes through the session with a kill at this stop: stops of the daemon that was killed,
/// and how often the connection ended.
fn go_through(at: u64, mut host: Host, session: Session) -> (u64, u32) {
    let socket = host.socket();
    let is_over = AtomicBool::new(false);
    let mut command = host.daemon();
    std::thread::scope(|scope| {
        let tracer = scope.spawn(|| run_until(&mut command, at, &is_over));
        let front = scope.spawn(|| {
            let ends = session(&socket);
            is_over.store(true, SeqCst);
            ends
        });
        let stops = tracer.join().unwrap();
        if !front.is_finished() {
            host.start_daemon();
        }
        let (ends, later) = front.join().unwrap();
        // One that was not kept yet may end, and then only one with a message under way. The
        // kernel closes what a process has that was killed one after the other, and a socket that
        // listens after those that it has accepted: who comes anew at once may wait there, and
        // that ends, too.
        assert!(
            ends <= 1 || (ends, later) == (2, 0),
            "stop {at}: {ends} ends, {later} later"
        );
        // Lines are written by a thread of their own.
        let ambiguous = || {
            let logged = host.logged();
            logged.matches("while it worked on a message").count()
        };
        wait_for(|| ambiguous() >= later as usize);
        let ambiguous = ambiguous();
        // The first message may be kept, and not be answered: then the daemon's end is not that of
        // the connection.
        let most = if ends == 1 { 1 } else { 0 };
        let may_end = later as usize..=most;
        assert!(
            may_end.contains(&ambiguous),
            "stop {at}: {may_end:?}, {ambiguous}: {}",
            host.logged()
        );
        (stops, ends)
    })
}

#[test]
fn what_was_answered_is_there_wherever_the_daemon_is_killed() {
    kill_at_each_stop(|| Host::new(Outside::Holder, &[]), script);
}

/// Goes through the session with a kill at one stop after the other.
pub(crate) fn kill_at_each_stop(host: fn() -> Host, session: Session) {
    let (all, _) = go_through(u64::MAX, host(), session);
    // `cargo xtask soak --kills` goes through all of them.
    let some = 60;
    let step = if std::env::var_os("TMEM_KILLS").is_some() {
        1
    } else {
        all.div_ceil(some)
    };
    let first = fastrand::u64(1..=step);
    eprintln!("{all} stops, each {step}th from {first} on");
    let mut ends = 0;
    for at in (first..=all).step_by(usize::try_from(step).unwrap()) {
        let (_, ended) = go_through(at, host(), session);
        ends += ended;
    }
    eprintln!("{ends} connections ended within a message");
}
