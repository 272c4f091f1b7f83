// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the program leaves behind when it fails: other programs' sockets, and a
//! terminal as it was.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use tempfile::TempDir;

use crate::guest::Guest;
use crate::refusals::{FAILED, Files, is_refusal};
use crate::terminal::Line;
use crate::vmm::{can_run, machine, program};

#[test]
fn an_api_socket_that_cannot_be_made_is_named() {
    let files = Files::new();
    let file = files.file("precious", b"precious");
    files.refuse(&["--api-socket", &file], FAILED, &[&file, "is no socket"]);
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let nowhere = files.at("nowhere/api");
    files.refuse(&["--api-socket", &nowhere], FAILED, &[&nowhere]);
    let listener = UnixListener::bind(files.path("used")).unwrap();
    let used = files.at("used");
    files.refuse(&["--api-socket", &used], FAILED, &[&used, "listens"]);
    drop(listener);
}

#[test]
fn an_api_socket_that_was_left_over_is_replaced() {
    if !can_run() {
        return;
    }
    let files = Files::new();
    drop(UnixListener::bind(files.path("api")).unwrap());
    let child = program(&["--kernel", &files.guest, "--api-socket", &files.at("api")])
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(child.success());
    assert!(!files.path("api").exists());
}

#[test]
fn a_refusal_leaves_the_terminal_as_it_was() {
    if !can_run() {
        return;
    }
    let files = Files::new();
    let missing = files.at("missing");
    for args in [
        ["--disk", &missing],
        ["--initrd", &missing],
        ["--memory", "1000T"],
        ["--tmem", "quota=1G,memory-limit=1000T"],
    ] {
        let mut program = program(&["--kernel", &files.guest]);
        program.args(args);
        let (line, vmm) = Line::start(program, TempDir::new().unwrap());
        let ended = vmm.end();
        is_refusal(&ended, &ended.out, FAILED, &[]);
        line.is_as_before();
    }
}

#[test]
fn a_crash_leaves_the_terminal_as_it_was() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    guest.print("crash\n");
    guest.crash();
    let dir = TempDir::new().unwrap();
    let program = machine(dir.path(), &guest, &[]);
    let (line, mut vmm) = Line::start(program, dir);
    vmm.see("crash\n");
    let ended = vmm.end();
    is_refusal(&ended, &ended.out, 4, &["triple fault"]);
    line.is_as_before();
}
