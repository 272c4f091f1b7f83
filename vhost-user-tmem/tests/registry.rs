// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Virtual machines come and go while the daemon runs.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use common::{Daemon, until};
use rustix::process::Signal;
use tempfile::TempDir;
use vhost_user_tmem::testing::{Ask, FrontEnd, guest_memory};
use virtio_tmem::testing::page_of;
use virtio_tmem::wire::{PoolKind, Status};

const OBJECT: [u8; 24] = [3; 24];
const MEMORY: u64 = 64 << 20;

/// A daemon that keeps its state in `dir`, with sockets there, too.
fn daemon(dir: &Path, args: &[&str]) -> Daemon {
    let (state, run) = (dir.join("state"), dir.join("run"));
    let mut all = vec!["--state", state.to_str().unwrap()];
    all.extend(["--run", run.to_str().unwrap()]);
    all.extend(args);
    Daemon::start(&[], &all)
}

/// The daemon's answer must have `status`; its body.
fn ask(daemon: &Daemon, method: &str, path: &str, body: &str, status: u16) -> serde_json::Value {
    let (is, said) = daemon.control(method, path, body).unwrap();
    assert_eq!(is, status, "{method} {path} {body}: {said}");
    serde_json::from_str(&said).unwrap_or_default()
}

fn count(daemon: &Daemon, what: &str) -> usize {
    let dir = format!("/proc/{}/{what}", daemon.pid());
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_machine_is_added_served_and_removed_with_all_it_had() {
    let dir = TempDir::new().unwrap();
    let daemon = daemon(dir.path(), &[]);
    let vm = ask(
        &daemon,
        "POST",
        "/v1/vms",
        r#"{"name": "web1", "quota": "8M"}"#,
        201,
    );
    let socket = dir.path().join("run/web1.sock");
    assert_eq!(vm["socket"], socket.to_str().unwrap());
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&socket, &mem, Ask::default()).unwrap();
    let mut driver = front_end.driver(1);
    driver.create_pool(0, PoolKind::Persistent);
    assert_eq!(
        driver.put(0, &OBJECT, 0, &[page_of(1)]).status(),
        Status::OK
    );
    let held = || daemon.control("GET", "/v1/stats", "").unwrap().1;
    let held = || {
        serde_json::from_str::<serde_json::Value>(&held()).unwrap()["store"]["held_bytes"].clone()
    };
    assert_ne!(held(), 0);
    ask(&daemon, "DELETE", "/v1/vms/web1", "", 204);
    assert!(!socket.exists());
    UnixStream::connect(&socket).unwrap_err();
    assert_eq!(held(), 0);
    // The connection has ended.
    front_end.stop().unwrap_err();
    ask(&daemon, "GET", "/v1/vms/web1", "", 404);
    ask(&daemon, "POST", "/v1/vms", r#"{"name": "web1"}"#, 201);
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&socket, &mem, Ask::default()).unwrap();
    let got = front_end.driver(1).get(0, &OBJECT, 0, 1);
    assert_eq!(got.status(), Status::NO_POOL);
}

#[test]
fn a_restart_keeps_what_was_added_changed_and_removed() {
    let dir = TempDir::new().unwrap();
    let first = daemon(dir.path(), &[]);
    for name in ["web1", "web2"] {
        ask(
            &first,
            "POST",
            "/v1/vms",
            &format!(r#"{{"name": "{name}"}}"#),
            201,
        );
    }
    let change =
        r#"{"quota": "3M", "weight": 300, "codec": "lz4", "domain": "team-a", "frozen": true}"#;
    let before = ask(&first, "PATCH", "/v1/vms/web1", change, 200);
    ask(&first, "DELETE", "/v1/vms/web2", "", 204);
    // As hard as it gets.
    first.end(Signal::KILL);
    let second = daemon(dir.path(), &["--quota", "5M"]);
    assert_eq!(ask(&second, "GET", "/v1/vms/web1", "", 200), before);
    ask(&second, "GET", "/v1/vms/web2", "", 404);
    let (status, _, _) = second.end(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    let left = fs::read_dir(dir.path().join("run")).unwrap().count();
    assert_eq!(left, 0, "sockets are removed at the end");
}

#[test]
fn files_of_the_administrator_are_served_and_stay() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("config");
    fs::create_dir(&config).unwrap();
    let own = dir.path().join("own.sock");
    let text = format!("quota = '7M'\nsocket = '{}'\n", own.display());
    fs::write(config.join("db1.toml"), text).unwrap();
    let daemon = daemon(dir.path(), &["--config", config.to_str().unwrap()]);
    let vm = ask(&daemon, "GET", "/v1/vms/db1", "", 200);
    assert_eq!(
        (&vm["origin"], &vm["kept"]),
        (&"file".into(), &false.into())
    );
    assert_eq!(vm["quota"], 7 << 20);
    UnixStream::connect(&own).unwrap();
    let refused = ask(&daemon, "DELETE", "/v1/vms/db1", "", 409);
    assert!(
        refused["error"].as_str().unwrap().contains("db1.toml"),
        "{refused}"
    );
    ask(&daemon, "POST", "/v1/vms", r#"{"name": "db1"}"#, 409);
}

#[test]
fn a_wrong_file_keeps_the_daemon_from_starting_and_is_named() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("db1.toml"), "quoat = 7\n").unwrap();
    let config = dir.path().to_str().unwrap();
    let control = dir.path().join("c.sock");
    let output = common::run(&[
        "--config",
        config,
        "--control-socket",
        control.to_str().unwrap(),
    ]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("db1.toml") && said.contains("quoat"),
        "{said}"
    );
}

#[test]
fn one_daemon_has_a_state_directory() {
    let dir = TempDir::new().unwrap();
    let _daemon = daemon(dir.path(), &[]);
    let state = dir.path().join("state");
    let control = dir.path().join("c.sock");
    let output = common::run(&[
        "--state",
        state.to_str().unwrap(),
        "--control-socket",
        control.to_str().unwrap(),
    ]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("another program has the state directory"),
        "{said}"
    );
}

#[test]
fn machines_that_nobody_uses_have_no_threads() {
    let dir = TempDir::new().unwrap();
    let daemon = daemon(dir.path(), &[]);
    let threads = count(&daemon, "task");
    let fds = count(&daemon, "fd");
    for nth in 0..200 {
        ask(
            &daemon,
            "POST",
            "/v1/vms",
            &format!(r#"{{"name": "vm{nth}"}}"#),
            201,
        );
    }
    assert_eq!(count(&daemon, "task"), threads);
    assert!(
        count(&daemon, "fd") <= fds + 200 * 2,
        "a socket and an event each"
    );
    for nth in 0..200 {
        ask(&daemon, "DELETE", &format!("/v1/vms/vm{nth}"), "", 204);
    }
    until("nothing is left of them", || {
        (count(&daemon, "task"), count(&daemon, "fd")) == (threads, fds)
    });
}

/// Threads of the daemon that serve queues.
fn queue_threads(daemon: &Daemon) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("queue")).count()
}

#[test]
fn queues_that_are_idle_have_no_threads() {
    const MACHINES: usize = 200;
    let dir = TempDir::new().unwrap();
    let daemon = daemon(dir.path(), &[]);
    let threads = count(&daemon, "task");
    let memories: Vec<_> = (0..MACHINES).map(|_| guest_memory(MEMORY)).collect();
    let mut front_ends = Vec::new();
    for (nth, mem) in memories.iter().enumerate() {
        let body = format!(r#"{{"name": "vm{nth}"}}"#);
        ask(&daemon, "POST", "/v1/vms", &body, 201);
        let socket = dir.path().join(format!("run/vm{nth}.sock"));
        let mut front_end = FrontEnd::connect(&socket, mem, Ask::default()).unwrap();
        let mut drivers = [1, 2].map(|queue| front_end.driver(queue));
        drivers[0].create_pool(0, PoolKind::Persistent);
        front_ends.push((front_end, drivers));
    }
    assert!(queue_threads(&daemon) > 0);
    until("threads have gone", || queue_threads(&daemon) == 0);
    // Nor for messages.
    until("no thread is left", || count(&daemon, "task") <= threads);
    // Each goes on with the next kick, and on a queue that was not used so far.
    for (_, drivers) in &mut front_ends {
        for driver in drivers {
            let put = driver.put(0, &OBJECT, 0, &[page_of(1)]);
            assert_eq!(put.status(), Status::OK);
        }
    }
    until("threads have gone", || count(&daemon, "task") <= threads);
    // And all are ended at once.
    let (status, log, _) = daemon.end(Signal::TERM);
    assert!(status.success(), "{log}");
}

/// Bytes that are resident and the daemon's own, once it has given back what it can.
fn private(daemon: &Daemon) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{}/statm", daemon.pid())).unwrap();
    let mut pages = statm
        .split_whitespace()
        .map(|it| it.parse::<u64>().unwrap());
    let (resident, shared) = (pages.nth(1).unwrap(), pages.next().unwrap());
    (resident - shared) * 4096
}

/// The heap, and what threads have left of their stacks. 61 KiB were seen, 60 KiB in a release build; below 64 KiB is wanted.
#[test]
fn machines_that_are_connected_and_idle_take_little_memory() {
    const COUNT: u64 = 64;
    let dir = TempDir::new().unwrap();
    let store = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = store.path().join("store");
    let daemon = daemon(dir.path(), &["--store", store.to_str().unwrap()]);
    let add = |nth: u64| {
        let body = format!(r#"{{"name": "vm{nth}"}}"#);
        ask(&daemon, "POST", "/v1/vms", &body, 201);
    };
    let memories: Vec<_> = (0..=COUNT).map(|_| guest_memory(MEMORY)).collect();
    let connect = |nth: u64| {
        let socket = dir.path().join(format!("run/vm{nth}.sock"));
        let memory = &memories[usize::try_from(nth).unwrap()];
        let mut front_end = FrontEnd::connect(&socket, memory, Ask::default()).unwrap();
        let created = front_end.driver(1).create_pool(0, PoolKind::Persistent);
        assert_eq!(created, Status::OK);
        front_end
    };
    // What is set up once is there after the first.
    add(0);
    let threads = count(&daemon, "task");
    let first = connect(0);
    until("threads have gone", || count(&daemon, "task") <= threads);
    let before = private(&daemon);
    (1..=COUNT).for_each(add);
    let added = private(&daemon).saturating_sub(before) / COUNT;
    let connected: Vec<_> = (1..=COUNT).map(connect).collect();
    until("threads have gone", || count(&daemon, "task") <= threads);
    let each = private(&daemon).saturating_sub(before) / COUNT;
    println!("{added} bytes for a machine that is not connected, {each} for one that is");
    assert!(each < 80 << 10, "{each} bytes");
    drop((first, connected));
}

#[test]
fn the_grace_period_is_changed_while_it_runs() {
    let dir = TempDir::new().unwrap();
    let daemon = daemon(dir.path(), &["--grace", "3600"]);
    ask(&daemon, "POST", "/v1/vms", r#"{"name": "web1"}"#, 201);
    let mem = guest_memory(MEMORY);
    let socket = dir.path().join("run/web1.sock");
    let mut front_end = FrontEnd::connect(&socket, &mem, Ask::default()).unwrap();
    front_end.driver(1).create_pool(0, PoolKind::Persistent);
    drop(front_end);
    let stats = || daemon.vm_stats("web1");
    until("it left", || stats()["connected"] == false);
    assert_eq!(stats()["pools"], 1);
    ask(&daemon, "PATCH", "/v1/vms/web1", r#"{"grace": 0}"#, 200);
    until("the grace period ended", || stats()["expiries"] == 1);
    assert_eq!(stats()["pools"], 0);
}

#[test]
fn a_name_is_free_as_soon_as_its_machine_is_removed() {
    let dir = TempDir::new().unwrap();
    let daemon = daemon(dir.path(), &[]);
    for round in 0..200 {
        ask(&daemon, "POST", "/v1/vms", r#"{"name": "web1"}"#, 201);
        if round % 2 == 0 {
            // Its thread may still have to do with this one when it is removed.
            drop(UnixStream::connect(dir.path().join("run/web1.sock")).unwrap());
        }
        ask(&daemon, "DELETE", "/v1/vms/web1", "", 204);
    }
}

#[test]
fn a_machine_is_removed_however_busy_it_is() {
    let dir = TempDir::new().unwrap();
    let daemon = daemon(dir.path(), &[]);
    ask(&daemon, "POST", "/v1/vms", r#"{"name": "other"}"#, 201);
    let mem = guest_memory(MEMORY);
    let socket = dir.path().join("run/other.sock");
    let mut front_end = FrontEnd::connect(&socket, &mem, Ask::default()).unwrap();
    let mut other = front_end.driver(1);
    other.create_pool(0, PoolKind::Persistent);
    other.put(0, &OBJECT, 0, &[page_of(1)]);
    for round in 0..10 {
        ask(&daemon, "POST", "/v1/vms", r#"{"name": "web1"}"#, 201);
        let path = dir.path().join("run/web1.sock");
        // One that says nothing, and many that wait behind it.
        let clients: Vec<_> = (0..4)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        if round % 2 == 0 {
            until("it is seen", || {
                daemon.vm_stats("web1")["connected"] == true
            });
        }
        ask(&daemon, "DELETE", "/v1/vms/web1", "", 204);
        for client in clients {
            client
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            let mut client = client;
            let end = std::io::Read::read(&mut client, &mut [0; 1]);
            assert!(
                matches!(end, Ok(0))
                    || end.is_err_and(|it| it.kind() == std::io::ErrorKind::ConnectionReset)
            );
        }
    }
    assert_eq!(other.get(0, &OBJECT, 0, 1).page(1, 0), page_of(1));
    // One that is removed has no front end that could not be served.
    let (_, log, _) = daemon.end(Signal::TERM);
    assert!(!log.contains("cannot be served"), "{log}");
}
