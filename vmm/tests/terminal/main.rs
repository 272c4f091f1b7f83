// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The terminal of a program that runs a serial port on it: raw meanwhile, and
//! as it was after every way out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod child;
mod user;

use std::io::Write;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::LocalModes;

use user::User;

/// Starts a program on a terminal, and waits until its guest runs.
fn start(guest: &str) -> (User, Child) {
    let mut user = User::new();
    assert!(!user.is_raw());
    let child = user.start(&mut user::program("machine", guest), user.line());
    user.see("guest runs");
    assert!(user.is_raw());
    (user, child)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn all_keys_are_the_guests_but_those_to_quit() {
    let (mut user, mut child) = start("echo");
    user.press(b"a\r\x03\x1a\x1c\x11\x13\x04");
    user.see("[61][0d][03][1a][1c][11][13][04]");
    user.press(b"\x01\x01\x01e");
    user.see("[01][01][65]");
    user.press(b"\x01h");
    user.see("Ctrl-A x: quit");
    user.press(b"\x01x");
    user.see("ended: quit");
    assert!(user::wait(&mut child).success());
    assert!(!user.is_raw());
}

#[test]
fn one_can_quit_although_the_guest_reads_nothing() {
    let (mut user, mut child) = start("deaf");
    for _ in 0..100 {
        user.press(b"does anybody hear me?");
    }
    user.press(b"\x01x");
    user.see("ended: quit");
    user::wait(&mut child);
    assert!(!user.is_raw());
}

#[test]
fn signals_that_end_the_program_leave_the_terminal_as_it_was() {
    for end in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let (mut user, mut child) = start("echo");
        signal(&child, end);
        user.see("ended: signal");
        user::wait(&mut child);
        assert!(!user.is_raw());
    }
}

#[test]
fn a_panic_in_any_thread_leaves_the_terminal_as_it_was() {
    let (mut user, mut child) = start("echo");
    user.press(b"P");
    // The terminal translates the line's end again.
    user.see("the guest's thread panics\r\n");
    assert!(!user.is_raw());
    signal(&child, Signal::TERM);
    user.see("ended: signal");
    user::wait(&mut child);
    assert!(!user.is_raw());
}

#[test]
fn an_exit_that_drops_nothing_leaves_the_terminal_as_it_was() {
    let (mut user, mut child) = start("echo");
    user.press(b"E");
    assert_eq!(user::wait(&mut child).code(), Some(42));
    assert!(!user.is_raw());
}

#[test]
fn a_signal_handler_can_restore_the_terminal() {
    let (user, mut child) = start("echo");
    signal(&child, Signal::USR1);
    assert_eq!(user::wait(&mut child).code(), Some(43));
    assert!(!user.is_raw());
}

#[test]
fn a_terminal_that_takes_no_output_holds_neither_the_guest_nor_the_end() {
    let (user, mut child) = start("flood");
    assert_eq!(user::wait(&mut child).code(), Some(44));
    assert!(!user.is_raw());
}

#[test]
fn a_pipe_is_passed_on_as_it_is_and_its_end_is_no_end() {
    let mut user = User::new();
    let mut child = user.start(&mut user::program("machine", "echo"), Stdio::piped());
    user.see("guest runs");
    assert!(!user.is_raw());
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"a\n\x01x").unwrap();
    drop(pipe);
    user.see("[61][0a][01][78]");
    signal(&child, Signal::TERM);
    user.see("ended: signal");
    user::wait(&mut child);
}

#[test]
fn a_background_job_leaves_the_terminal_alone_until_it_is_called() {
    let mut user = User::new();
    let mut shell = user.start(&mut user::program("shell", "echo"), Stdio::piped());
    let mut orders = shell.stdin.take().unwrap();
    let mut order = |order: &str| writeln!(orders, "{order}").unwrap();

    // Not called yet: output is shown, input is somebody else's.
    order("start");
    user.see("guest runs");
    assert!(!user.is_raw());
    order("fg");
    user.see("done");
    user.press(b"a");
    user.see("[61]");
    assert!(user.is_raw());

    // Stopped while it has the terminal; the shell takes that.
    order("stop");
    user.see("done");
    assert!(!user.is_raw());
    order("fg");
    user.see("done");
    user.press(b"b");
    user.see("[62]");
    assert!(user.is_raw());

    // Stopped, continued in the background, and ended there.
    order("stop");
    user.see("done");
    order("bg");
    user.see("done");
    let before = user.settings().local_modes;
    assert!(before.contains(LocalModes::TOSTOP), "they are the shell's");
    order("term");
    user.see("ended: signal");
    user.see("done");
    assert_eq!(user.settings().local_modes, before);
    drop(orders);
    user::wait(&mut shell);
}

/// Not a test: what the others start.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    child::run();
}
