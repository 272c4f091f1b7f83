// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who reaches the control API, and who does not.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

mod common;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use common::{Daemon, until};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

const REQUEST: &[u8] = b"GET /v1/vms HTTP/1.1\r\nHost: x\r\n\r\n";

/// What is answered at a socket.
fn ask(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // Whoever refuses may have closed already.
    let _ = stream.write_all(REQUEST);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// What another user is answered, who is in these groups.
fn ask_as(user: u32, group: u32, groups: &'static [u32], socket: &Path) -> String {
    let socket = socket.to_owned();
    // Users are those of a thread to the kernel.
    let asked = std::thread::spawn(move || {
        let groups: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
        set_thread_groups(&groups).unwrap();
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        set_thread_res_gid(group, group, group).unwrap();
        set_thread_res_uid(user, user, user).unwrap();
        ask(&socket)
    });
    asked.join().unwrap()
}

#[test]
fn a_machines_socket_does_not_speak_http() {
    let daemon = Daemon::start(&["vm"], &[]);
    assert_eq!(ask(&daemon.socket("vm")), "");
    until("it was a front end to the daemon", || {
        let stats = daemon.vm_stats("vm");
        stats["connections"] == 1 && stats["connected"] == false
    });
}

#[test]
fn other_users_are_told_that_they_may_not_whatever_the_files_mode() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: nobody else can be tried");
        return;
    }
    let daemon = Daemon::start(&[], &["--control-group", "4711"]);
    let socket = daemon.socket("control");
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!((metadata.mode() & 0o777, metadata.gid()), (0o660, 4711));
    assert!(ask(&socket).contains(" 200 OK"));
    // Everybody reaches the socket, as by mistake.
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(socket.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    let said = ask_as(1234, 1234, &[], &socket);
    assert!(
        said.contains(" 403 ") && said.contains("user 1234"),
        "{said}"
    );
    assert!(ask_as(1234, 1234, &[7, 8], &socket).contains(" 403 "));
    assert!(ask_as(1234, 4711, &[], &socket).contains(" 200 OK"));
    assert!(ask_as(1234, 1234, &[7, 4711], &socket).contains(" 200 OK"));
}
