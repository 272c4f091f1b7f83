// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The state of a device, which its front end has saved and loaded: after the vhost-user specification,
//! "Migrating device state".

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::Signal;

use crate::cloned::add;
use crate::daemon::Daemon;
use crate::front_end::{CHECK_DEVICE_STATE, FrontEnd, P_DEVICE_STATE, SET_DEVICE_STATE_FD, pair};
use crate::request::{EXISTS, OK, create_pool, get, put};
use crate::restart::added::Places;
use crate::restart::host::{Host, Outside};
use crate::saved::{self, check, connect_with, copy, fill, pause};

const MEMORY: u64 = 1 << 20;
/// The pool is not there.
const NO_POOL: u8 = 0x42;

/// Directions, and the only phase.
const SAVE: u32 = 0;
const LOAD: u32 = 1;
const STOPPED: u32 = 0;

/// Version 1. These messages have an answer in any case: one, not two.
const NEEDS_REPLY: u32 = 1 | 8;

/// The answer to a descriptor: that none comes back, or an error.
const NONE_COMES_BACK: u64 = 1 << 8;
const ERROR: u64 = 0xff;

fn pipe() -> (File, File) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (read.into(), write.into())
}

/// It holds a page.
fn small_pipe() -> (File, File) {
    let (read, write) = pipe();
    fcntl_setpipe_size(&write, 4096).unwrap();
    (read, write)
}

fn socket() -> (File, File) {
    let (one, other) = UnixStream::pair().unwrap();
    (OwnedFd::from(one).into(), OwnedFd::from(other).into())
}

/// Announces memory, and starts the queue.
fn go_on(a: &mut FrontEnd) {
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
}

/// A machine that begins.
fn begin(daemon: &Daemon, name: &str) -> FrontEnd {
    let mut a = FrontEnd::connect(&daemon.socket(name), MEMORY);
    go_on(&mut a);
    a
}

/// A machine that has pages and is paused.
fn paused(daemon: &Daemon) -> FrontEnd {
    let mut a = begin(daemon, "a");
    fill(&mut a);
    pause(&mut a);
    a
}

fn hand_over(a: &mut FrontEnd, direction: u32, phase: u32, end: &File) -> Option<u64> {
    a.send(
        SET_DEVICE_STATE_FD,
        NEEDS_REPLY,
        &pair(direction, phase),
        &[end.as_fd()],
    );
    a.receive()
}

fn is_well(a: &mut FrontEnd) -> bool {
    a.send(CHECK_DEVICE_STATE, NEEDS_REPLY, &[], &[]);
    a.receive().unwrap() == 0
}

/// The state of a machine that is paused.
fn save(a: &mut FrontEnd, (mut near, far): (File, File)) -> Vec<u8> {
    assert_eq!(hand_over(a, SAVE, STOPPED, &far), Some(NONE_COMES_BACK));
    drop(far);
    let mut state = Vec::new();
    near.read_to_end(&mut state).unwrap();
    assert!(is_well(a));
    state
}

/// Has a machine have a state, whose front end has started no queue; whether that went well.
fn load(a: &mut FrontEnd, (far, mut near): (File, File), state: &[u8]) -> bool {
    assert_eq!(hand_over(a, LOAD, STOPPED, &far), Some(NONE_COMES_BACK));
    drop(far);
    // A back end that has seen enough may read no more.
    let _ = near.write_all(state);
    drop(near);
    is_well(a)
}

/// A front end with this memory that has started no queue, nor announced it.
fn connect(daemon: &Daemon, name: &str, memory: &File) -> FrontEnd {
    FrontEnd::connect_with(&daemon.socket(name), memory.try_clone().unwrap())
}

#[test]
fn a_machine_goes_on_elsewhere_with_the_state_that_was_saved() {
    let daemon = Daemon::start();
    for channel in [pipe, small_pipe, socket] {
        let mut a = paused(&daemon);
        let memory = copy(&a.memory);
        let state = save(&mut a, channel());
        // The one that was saved goes on over the same connection, which Cloud Hypervisor sets up anew
        // for that.
        go_on(&mut a);
        assert_eq!(put(&mut a, 0, 3, 1), OK);

        // Memory may be announced before the state comes, or after.
        for is_announced in [true, false] {
            let other = Daemon::start();
            let memory = copy(&memory);
            let mut b = connect(&other, "b", &memory);
            assert_ne!(b.protocol & P_DEVICE_STATE, 0);
            if is_announced {
                assert_eq!(b.share_memory(MEMORY), Some(0));
            }
            assert!(load(&mut b, channel(), &state));
            if !is_announced {
                assert_eq!(b.share_memory(MEMORY), Some(0));
            }
            b.start();
            check(&mut b);
            assert_eq!(put(&mut b, 0, 9, 9), OK);
            drop(b);
            let mut b = connect(&other, "b", &memory);
            go_on(&mut b);
            assert_eq!(get(&mut b, 0, 9), (OK, OK, 9));
        }
        assert_eq!(get(&mut a, 0, 3), (OK, OK, 1));
    }
}

#[test]
fn a_state_may_lie_in_a_file() {
    let daemon = Daemon::start();
    let mut a = paused(&daemon);
    let memory = copy(&a.memory);
    let mut file = File::from(memfd_create("state", MemfdFlags::CLOEXEC).unwrap());
    assert_eq!(
        hand_over(&mut a, SAVE, STOPPED, &file),
        Some(NONE_COMES_BACK)
    );
    assert!(is_well(&mut a));
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut b = connect(&daemon, "b", &memory);
    assert_eq!(
        hand_over(&mut b, LOAD, STOPPED, &file),
        Some(NONE_COMES_BACK)
    );
    assert!(is_well(&mut b));
    go_on(&mut b);
    check(&mut b);
}

/// What an operator saves, a front end can load, and the other way round.
#[test]
fn a_state_is_an_image() {
    let one = saved::host();
    let memory = tempfile::tempfile().unwrap();
    memory.set_len(MEMORY).unwrap();
    let mut a = connect_with(&one, &memory);
    fill(&mut a);
    pause(&mut a);
    let memory = copy(&a.memory);
    let image = saved::save(&one);
    let state = save(&mut a, pipe());

    let other = saved::host();
    let said = saved::restore(&other, &state);
    assert_eq!(said.0, 200, "{}", said.1);
    check(&mut connect_with(&other, &copy(&memory)));

    let other = saved::host();
    let mut b = FrontEnd::connect_with(&other.socket(), memory);
    assert!(load(&mut b, pipe(), &image));
    go_on(&mut b);
    check(&mut b);
}

/// The same machine goes back in time, with its memory, over the same connection.
#[test]
fn a_machine_goes_back_to_a_state() {
    let daemon = Daemon::start();
    let mut a = paused(&daemon);
    let mut then = vec![0; usize::try_from(MEMORY).unwrap()];
    a.memory.read_exact_at(&mut then, 0).unwrap();
    let state = save(&mut a, pipe());
    a.start();
    assert_eq!(put(&mut a, 0, 3, 1), OK);
    pause(&mut a);
    a.memory.write_all_at(&then, 0).unwrap();
    assert!(load(&mut a, pipe(), &state));
    a.turn_to(1, 0);
    a.start();
    check(&mut a);
}

/// Memory of another moment than the state.
#[test]
fn a_state_does_not_meet_memory_of_another_moment() {
    let daemon = Daemon::start();
    let mut a = paused(&daemon);
    let state = save(&mut a, pipe());
    a.start();
    assert_eq!(put(&mut a, 0, 3, 1), OK);
    let memory = copy(&a.memory);
    let mut b = connect(&daemon, "b", &memory);
    assert!(load(&mut b, pipe(), &state));
    go_on(&mut b);
    assert_eq!(get(&mut b, 0, 3).0, NO_POOL);
}

/// A front end that asks while a queue runs, or for what there is not, is told so, and the connection
/// ends: one which has stopped the queues before it asked sets them up anew then.
#[test]
fn what_cannot_be_saved_is_refused() {
    let daemon = Daemon::start();
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let (near, far) = pipe();
    let wrong = [
        (false, SAVE, STOPPED, &far),
        (false, LOAD, STOPPED, &far),
        (true, SAVE, STOPPED + 1, &far),
        (true, LOAD + 1, STOPPED, &far),
    ];
    for (is_paused, direction, phase, end) in wrong {
        let mut a = begin(&daemon, "a");
        assert_eq!(create_pool(&mut a, 0), OK);
        if is_paused {
            pause(&mut a);
        }
        let answer = hand_over(&mut a, direction, phase, end);
        assert!(
            answer.is_none_or(|answer| answer & ERROR != 0),
            "{answer:?}"
        );
        assert_eq!(a.receive(), None);
    }
    // With more than a pipe holds.
    let mut a = paused(&daemon);
    assert!(!is_well(&mut a), "nothing was transferred");
    assert_eq!(
        hand_over(&mut a, SAVE, STOPPED, &null),
        Some(NONE_COMES_BACK)
    );
    assert!(!is_well(&mut a), "it is no channel");
    assert_eq!(
        hand_over(&mut a, SAVE, STOPPED, &near),
        Some(NONE_COMES_BACK)
    );
    assert!(!is_well(&mut a), "it is the end to read from");
    assert_eq!(
        hand_over(&mut a, SAVE, STOPPED, &far),
        Some(NONE_COMES_BACK)
    );
    assert_ne!(
        hand_over(&mut a, SAVE, STOPPED, &far).unwrap() & ERROR,
        0,
        "one at a time"
    );
    assert_eq!(a.receive(), None);
}

/// A state that is not as it was saved: nothing of it is there.
#[test]
fn a_damaged_state_is_found_out() {
    let daemon = Daemon::start();
    let mut a = paused(&daemon);
    let memory = copy(&a.memory);
    let state = save(&mut a, pipe());
    let mut states = vec![Vec::new(), b"something else".to_vec()];
    for part in [1, 2, 3] {
        let at = state.len() * part / 3;
        states.push(state.get(..at.min(state.len() - 1)).unwrap().to_vec());
        let mut flipped = state.clone();
        *flipped.get_mut(at - 1).unwrap() ^= 4;
        states.push(flipped);
    }
    for damaged in states {
        let mut b = connect(&daemon, "b", &memory);
        assert!(!load(&mut b, pipe(), &damaged));
        go_on(&mut b);
        assert_eq!(get(&mut b, 0, 3).0, NO_POOL);
        drop(b);
        // Whole, it is loaded still.
        let mut b = connect(&daemon, "b", &memory);
        assert!(load(&mut b, pipe(), &state));
    }
}

/// A driver that uses a queue before all of the state is there has nothing of it.
#[test]
fn a_machine_that_runs_meanwhile_has_nothing_of_the_state() {
    let daemon = Daemon::start();
    let mut a = paused(&daemon);
    let memory = copy(&a.memory);
    let state = save(&mut a, pipe());
    let mut b = connect(&daemon, "b", &memory);
    let (far, mut near) = pipe();
    assert_eq!(
        hand_over(&mut b, LOAD, STOPPED, &far),
        Some(NONE_COMES_BACK)
    );
    let (first, rest) = state.split_at(state.len() / 2);
    near.write_all(first).unwrap();
    go_on(&mut b);
    // Its pools may be there already.
    get(&mut b, 0, 700);
    let _ = near.write_all(rest);
    drop(near);
    assert!(!is_well(&mut b));
    assert_eq!(get(&mut b, 0, 3).0, NO_POOL);
}

/// A front end that neither reads nor writes holds up nobody, not even itself.
#[test]
fn a_front_end_that_does_nothing_is_not_waited_for() {
    let daemon = Daemon::start();
    for direction in [SAVE, LOAD] {
        let mut a = paused(&daemon);
        let (read, write) = pipe();
        let end = if direction == SAVE { &write } else { &read };
        assert_eq!(
            hand_over(&mut a, direction, STOPPED, end),
            Some(NONE_COMES_BACK)
        );
        // Others are served.
        let mut b = begin(&daemon, "b");
        create_pool(&mut b, 0);
        assert_eq!(put(&mut b, 0, 1, 1), OK);
        let asked = Instant::now();
        assert!(!is_well(&mut a));
        assert!(asked.elapsed() < Duration::from_secs(10));

        assert_eq!(
            hand_over(&mut a, direction, STOPPED, end),
            Some(NONE_COMES_BACK)
        );
        drop(a);
        // Its next front end comes though both ends are open.
        let mut a = begin(&daemon, "a");
        assert!([OK, EXISTS].contains(&create_pool(&mut a, 1)));
    }
}

/// Front ends may have as many states under way as there are threads for them, and do nothing.
#[test]
fn front_ends_that_do_nothing_do_not_keep_the_operator_from_saving() {
    let places = Places::new();
    let _host = places.host(Outside::Store);
    let mut waiting = Vec::new();
    for number in 0..5 {
        let socket = add(&places, &format!("vm{number}"), "16M");
        let mut a = FrontEnd::connect(&socket, MEMORY);
        go_on(&mut a);
        fill(&mut a);
        pause(&mut a);
        // One page has room in it, so that a state does not.
        let (read, write) = small_pipe();
        let answer = hand_over(&mut a, SAVE, STOPPED, &write);
        let is_begun = answer == Some(NONE_COMES_BACK);
        assert_eq!(is_begun, number < 4, "{answer:?}");
        waiting.push((a, read, write));
    }
    let mut control = places.control();
    let request = b"GET /v1/vms/vm4/image HTTP/1.1\r\nHost: localhost\r\n\r\n";
    control.write_all(request).unwrap();
    let mut status = [0; 12];
    control.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
}

/// The daemon ends meanwhile, and the next one goes on with the front end.
#[test]
fn a_state_that_was_begun_by_another_daemon_is_not_well() {
    for outside in [Outside::Holder, Outside::Manager] {
        for direction in [SAVE, LOAD] {
            let mut host = Host::start(outside);
            let mut a = FrontEnd::connect(&host.socket(), MEMORY);
            go_on(&mut a);
            fill(&mut a);
            pause(&mut a);
            let (mut read, mut write) = pipe();
            let end = if direction == SAVE { &write } else { &read };
            assert_eq!(
                hand_over(&mut a, direction, STOPPED, end),
                Some(NONE_COMES_BACK)
            );
            if direction == LOAD {
                write.write_all(b"tmem-vm\n").unwrap();
            }
            drop(write);
            host.restart(Signal::KILL);
            if direction == SAVE {
                // It ends early.
                let mut state = Vec::new();
                read.read_to_end(&mut state).unwrap();
            }
            assert!(!is_well(&mut a), "{outside:?} {direction}");
            a.start();
            check(&mut a);
        }
    }
}
