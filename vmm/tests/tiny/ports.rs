// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What serial ports are connected to, with a guest that answers.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use rustix::process::Signal;
use tempfile::TempDir;
use tmem_vmm::machine::layout;

use crate::asm::{If, Reg, Width};
use crate::guest::Guest;
use crate::terminal::Line;
use crate::vmm::{PATIENCE, Vmm, can_run, run};

/// Registers of a serial port: line status, and its bit "data ready".
const STATUS: u16 = 5;
const READY: i32 = 1;

/// A guest that answers each byte from the second port with the next one, and
/// switches off after a zero.
fn answering() -> Guest {
    let port = layout::SERIAL[1].0;
    let mut guest = Guest::new();
    guest.print("ready\n");
    let again = guest.code.here();
    guest.input(Width::One, port + STATUS);
    guest.code.and(Reg::Rax, READY);
    guest.code.compare(Reg::Rax, READY);
    guest.code.jump_if(If::Different, again);
    guest.input(Width::One, port);
    guest.code.add(Reg::Rax, 1);
    guest.code.set(Reg::Rdx, port.into());
    guest.code.out(Width::One);
    guest.code.compare(Reg::Rax, 1);
    guest.code.jump_if(If::Different, again);
    guest.power_off();
    guest
}

#[test]
fn the_second_port_can_be_a_socket() {
    if !can_run() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("serial");
    let listener = UnixListener::bind(&path).unwrap();
    let socket = format!("socket={}", path.display());
    let vmm = Vmm::start(&answering(), &["--serial", "null", "--serial", &socket]);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"HAL\0").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"IBM\x01");
    vmm.end().silently(0);
}

#[test]
fn a_port_can_be_a_terminal_of_its_own() {
    if !can_run() {
        return;
    }
    let mut terminal = Line::new();
    let path = format!("path={}", terminal.path());
    let mut vmm = Vmm::start(&answering(), &["--serial", "tty", "--serial", &path]);
    vmm.see("ready\n");
    assert!(terminal.is_raw());
    terminal.press(b"HAL");
    let mut answer = [0; 3];
    terminal.read(&mut answer);
    assert_eq!(&answer, b"IBM");
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
    terminal.is_as_before();
}

#[test]
fn output_is_added_to_a_file() {
    if !can_run() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, "before\n").unwrap();
    let mut guest = Guest::new();
    guest.print("after\n");
    guest.power_off();
    let serial = format!("file={}", path.display());
    run(&guest, &["--serial", &serial]).silently(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
}
