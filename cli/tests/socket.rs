// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sockets are made once, with the access that was asked for, and removed.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use tempfile::TempDir;
use tmem_cli::socket::{Access, Socket, group_id};

/// A place for a socket.
fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.sock");
    (dir, path)
}

#[test]
fn a_socket_has_its_mode_and_is_removed_at_the_end() {
    let (_dir, path) = place();
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
fn other_threads_make_files_meanwhile_with_the_mask_that_they_had() {
    let (dir, path) = place();
    let file = dir.path().join("file");
    let made = std::thread::scope(|scope| {
        let makes = scope.spawn(|| {
            for _ in 0..500 {
                drop(Socket::bind(&path, Access::OWNER_ONLY).unwrap());
            }
        });
        let mut modes = Vec::new();
        while !makes.is_finished() {
            fs::write(&file, "").unwrap();
            modes.push(fs::metadata(&file).unwrap().permissions().mode() & 0o600);
            fs::remove_file(&file).unwrap();
        }
        modes
    });
    assert!(made.iter().all(|mode| *mode == 0o600));
}

#[test]
fn a_socket_that_has_ended_is_gone_for_others() {
    let (_dir, path) = place();
    let socket = Socket::bind(&path, Access::OWNER_ONLY).unwrap();
    let other = path.with_extension("moved");
    fs::hard_link(&path, &other).unwrap();
    socket.end();
    assert!(!path.exists());
    UnixStream::connect(&other).unwrap_err();
}

#[test]
fn one_that_has_ended_leaves_the_next_one_alone() {
    let (_dir, path) = place();
    for _ in 0..2000 {
        let first = Socket::bind(&path, Access::OWNER_ONLY).unwrap();
        first.end();
        // It may get the number of the first one's file, once that is closed.
        let second = std::thread::scope(|scope| {
            scope.spawn(|| drop(first));
            Socket::bind(&path, Access::OWNER_ONLY).unwrap()
        });
        assert!(path.exists());
        drop(second);
    }
}

#[test]
fn what_another_put_in_its_place_is_left_alone() {
    let (_dir, path) = place();
    let socket = Socket::bind(&path, Access::OWNER_ONLY).unwrap();
    fs::rename(&path, path.with_extension("moved")).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(socket);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let (_dir, path) = place();
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
