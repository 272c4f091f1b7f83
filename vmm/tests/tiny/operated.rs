// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control API of a machine, and tmemctl: as with the daemon.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tempfile::TempDir;
use tmem_host::testing::Document;

use crate::api::{ask, exchange, request};
use crate::control::idling;
use crate::terminal::Line;
use crate::tmemctl;
use crate::vmm::{Vmm, can_run};

/// A machine with a store, whose guest is called `web1`.
fn with_store(args: &[&str]) -> Vmm {
    let tmem = ["--tmem", "quota=16M,memory-limit=32M,name=web1"];
    idling(&[&tmem, args].concat())
}

/// Asks, and fails if the answer is not one that the API describes.
fn judged(document: &Document, api: &Path, method: &str, path: &str, body: &str) -> u16 {
    let (head, answer) = exchange(api, method, path, body);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Type: "));
    document.judge(method, path, (status, kind.unwrap_or_default(), &answer));
    status
}

fn document(api: &Path) -> Document {
    Document::read(&ask(api, "GET", "/v1/openapi.json", "").to_string())
}

#[test]
fn the_api_is_as_it_describes_itself() {
    if !can_run() {
        return;
    }
    let vmm = with_store(&[]);
    let api = vmm.api();
    let document = document(&api);
    for (method, path, body, status) in [
        ("GET", "/v1/vm", "", 200),
        ("PUT", "/v1/vm/pause", "", 200),
        ("PUT", "/v1/vm/resume", "", 200),
        ("PUT", "/v1/vm/shutdown", r#"{"force": 1}"#, 400),
        ("PUT", "/v1/vm", "", 405),
        ("GET", "/v1/vm/pause", "", 405),
        ("PUT", "/v1/tmem", r#"{"quota": 8388608}"#, 404),
        ("GET", "/v1/vms", "", 200),
        ("GET", "/v1/vms/web1", "", 200),
        ("GET", "/v1/vms/guest", "", 404),
        ("POST", "/v1/vms", r#"{"name": "web2"}"#, 409),
        ("POST", "/v1/vms", r#"{"name": "../web2"}"#, 400),
        ("DELETE", "/v1/vms/web1", "", 409),
        ("DELETE", "/v1/vms/web2", "", 404),
        (
            "PATCH",
            "/v1/vms/web1",
            r#"{"quota": "8M", "codec": "lz4"}"#,
            200,
        ),
        ("PATCH", "/v1/vms/web1", r#"{"quota": "33M"}"#, 400),
        ("PATCH", "/v1/vms/web1", r#"{"grace": 5}"#, 400),
        ("PATCH", "/v1/vms/web1", "{}", 400),
        ("PATCH", "/v1/vms/web2", r#"{"weight": 3}"#, 404),
        ("POST", "/v1/vms/web1/flush", r#"{"bytes": 4096}"#, 200),
        ("POST", "/v1/vms/web1/flush", "", 400),
        ("POST", "/v1/vms/web1/detach", "", 200),
        ("GET", "/v1/freeable", "", 200),
        ("GET", "/v1/stats", "", 200),
        ("POST", "/v1/stats", "", 405),
        ("GET", "/v1/openapi.json", "", 200),
        ("PUT", "/v1/openapi.json", "", 405),
        ("GET", "/metrics", "", 200),
        ("POST", "/metrics", "", 405),
        ("GET", "/", "", 404),
        ("PUT", "/v1/vm/shutdown", r#"{"force": true}"#, 200),
    ] {
        let is = judged(&document, &api, method, path, body);
        assert_eq!(is, status, "{method} {path} {body}");
    }
    vmm.end().silently(0);
}

#[test]
fn a_machine_without_a_store_says_who_has_it() {
    if !can_run() {
        return;
    }
    for (args, words) in [
        (&[][..], "--tmem quota=SIZE"),
        (&["--tmem", "socket=/nowhere/at/all"], "the daemon has"),
        (&["--tmem-swap", "socket=/nowhere/at/all"], "the daemon has"),
    ] {
        let vmm = idling(args);
        let api = vmm.api();
        let document = document(&api);
        assert_eq!(judged(&document, &api, "GET", "/v1/vms", ""), 200);
        assert_eq!(judged(&document, &api, "GET", "/v1/freeable", ""), 200);
        assert_eq!(judged(&document, &api, "GET", "/v1/vms/guest", ""), 404);
        assert_eq!(judged(&document, &api, "GET", "/metrics", ""), 200);
        let (status, reason) = request(&api, "POST", "/v1/vms", r#"{"name": "web1"}"#);
        assert_eq!(status, 409);
        assert!(reason.contains(words), "{reason}");
        vmm.signal(Signal::TERM);
        vmm.end().silently(0);
    }
}

#[test]
fn tmemctl_operates_a_machine_as_it_does_a_daemon() {
    if !can_run() {
        return;
    }
    let vmm = with_store(&[]);
    let api = vmm.api();
    let says = |line: &str| tmemctl::says(&api, line);
    let list = says("vm list");
    assert!(list.contains("web1  connected"), "{list}");
    says("vm set web1 --quota 24M --weight 300 --codec zstd --swap-size 64M");
    let long = says("vm list --long");
    for words in [
        "quota       24 MiB",
        "zstd",
        "on the command line",
        "64 MiB",
    ] {
        assert!(long.contains(words), "'{words}' is not in {long}");
    }
    says("vm freeze web1");
    assert!(says("vm list").contains("frozen"));
    says("vm thaw web1");
    assert!(!says("vm list").contains("frozen"));
    assert!(says("freeable").contains("web1"));
    assert!(says("vm flush web1 --bytes 1M").contains("0 ephemeral pages"));
    assert!(says("vm detach web1").contains("web1"));
    for (line, words) in [
        ("vm add web2", "has one virtual machine"),
        ("vm remove web1", "has one virtual machine"),
        ("vm set web1 --quota 1G", "memory limit of 32 MiB"),
        ("vm set web1 --grace 7", "no front end"),
    ] {
        let refusal = tmemctl::refuses(&api, line);
        assert!(refusal.contains(words), "{line}: {refusal}");
    }
    let mut top = Command::new(tmemctl::program());
    top.args(["top", "--control-socket"]).arg(&api);
    let (mut terminal, mut shown) = Line::start(top, TempDir::new().unwrap());
    shown.see("web1");
    terminal.press(b"q");
    assert_eq!(shown.end().code(), Some(0));
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
}

#[test]
fn what_the_guest_has_of_its_memory_is_known_before_it_gives_any_back() {
    if !can_run() {
        return;
    }
    let vmm = with_store(&[]);
    let of_memory = |key: &str| ask(&vmm.api(), "GET", "/v1/vms/web1", "")[key].as_u64();
    let began = std::time::Instant::now();
    while of_memory("resident_bytes").is_none_or(|bytes| bytes == 0) {
        assert!(began.elapsed() < crate::vmm::PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(of_memory("memory_bytes"), Some(8 << 20));
    let given = of_memory("given_back_bytes").unwrap();
    assert!(given > 0 && given < 8 << 20, "{given}");
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
}

#[test]
fn members_of_the_api_group_may_use_it_and_others_not() {
    if !can_run() || !rustix::process::geteuid().is_root() {
        return;
    }
    let vmm = with_store(&["--api-group", "4711"]);
    let api = vmm.api();
    let metadata = fs::metadata(&api).unwrap();
    assert_eq!((metadata.mode() & 0o777, metadata.gid()), (0o660, 4711));
    // Everybody reaches the socket, as by mistake.
    fs::set_permissions(&api, Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(api.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    let as_member = |group: u32| {
        let api = api.clone();
        // Users are those of a thread to the kernel.
        let asked = std::thread::spawn(move || {
            let (user, group) = (Uid::from_raw(1234), Gid::from_raw(group));
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
            request(&api, "GET", "/v1/vms", "").0
        });
        asked.join().unwrap()
    };
    assert_eq!((as_member(4711), as_member(1234)), (200, 403));
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
}
