// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sockets are made once, with the access that was asked for, and removed.
//! One test after the other: making a socket changes the process's mode mask.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;
use tmem_cli::socket::{Access, Socket, group_id};

static ALONE: Mutex<()> = Mutex::new(());

/// A place for a socket, and the right to make it.
fn place() -> (MutexGuard<'static, ()>, TempDir, PathBuf) {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.sock");
    (alone, dir, path)
}

#[test]
fn a_socket_has_its_mode_and_is_removed_at_the_end() {
    let (_alone, _dir, path) = place();
    let access = Access {
        group: Some(rustix::process::getgid().as_raw()),
        mode: 0o660,
    };
    let socket = Socket::bind(&path, access).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(socket.path(), path);
    UnixStream::connect(&path).unwrap();
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn what_another_put_in_its_place_is_left_alone() {
    let (_alone, _dir, path) = place();
    let socket = Socket::bind(&path, Access::OWNER_ONLY).unwrap();
    fs::rename(&path, path.with_extension("moved")).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(socket);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let (_alone, _dir, path) = place();
    let refused = || {
        let error = Socket::bind(&path, Access::OWNER_ONLY).unwrap_err();
        format!("{error:#}")
    };
    fs::write(&path, "precious").unwrap();
    assert!(refused().contains("is no socket"));
    fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    assert!(refused().contains("somebody listens"));
    drop(listener);
    Socket::bind(&path, Access::OWNER_ONLY).unwrap();
}

#[test]
fn a_group_is_found_by_its_name_or_number() {
    assert_eq!(group_id("root").unwrap(), 0);
    assert_eq!(group_id("4711").unwrap(), 4711);
    let error = group_id("no-such-group").unwrap_err().to_string();
    assert!(error.contains("no-such-group"), "{error}");
}
