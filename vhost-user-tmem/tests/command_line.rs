// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon's manners: how it starts, refuses to, and ends.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use common::{Daemon, run, until};
use rustix::process::Signal;
use tempfile::TempDir;
use vhost_user_tmem::testing::{Ask, FrontEnd, guest_memory};

/// Runs the daemon with `args`: it must say one sentence with each of `words`
/// and end with an error.
fn refuses(args: &[&str], words: &[&str]) {
    let output = run(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{args:?}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{args:?}: {said}");
    assert!(said.starts_with("vhost-user-tmem: "), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

#[test]
fn a_broken_command_line_is_refused_in_one_sentence() {
    refuses(&[], &["--socket-path"]);
    refuses(&["--bogus"], &["--bogus", "--help"]);
    refuses(&["--quota"], &["--quota"]);
    refuses(&["--quota", "1.5G"], &["1.5G", "K, M, G or T"]);
    refuses(&["--request-queues", "0"], &["--request-queues", "0"]);
    refuses(&["--request-queues", "64"], &["64"]);
    refuses(&["--grace", "soon"], &["soon", "seconds"]);
    refuses(&["--socket-mode", "888"], &["888", "octal"]);
    refuses(&["--log-level", "loud"], &["loud"]);
    refuses(&["--vm", "quota=1G"], &["socket=PATH"]);
    refuses(&["--vm", "socket=/x/a,fd=3"], &["fd=N"]);
    refuses(&["--vm", "fd=three"], &["'three'"]);
    refuses(&["--vm", "fd=3", "--vm", "fd=3,name=b"], &["fd=3"]);
    refuses(&["--quota", "credit:"], &["is not a size"]);
    refuses(&["--quota", "credits"], &["credit:SIZE"]);
    refuses(&["--vm", "socket=/x/a,weight=0"], &["above 0"]);
    refuses(
        &["--vm", "socket=/x/a,codec=gzip"],
        &["auto, lz4, zstd or none"],
    );
    refuses(&["--vm", "socket=/x/a,give-back=all"], &["certain or any"]);
    refuses(&["--vm", "socket=/x,color=red"], &["color", "swap-size"]);
    let twice = "socket=/x/a,quota=1G,quota=2G";
    refuses(&["--vm", twice], &["'quota' is given twice"]);
    refuses(
        &["--socket-path", "/x/a", "--socket-path", "/y/a"],
        &["'a'"],
    );
    refuses(&["--socket-path", "/tmp/a b"], &["a b"]);
}

#[test]
fn a_quota_or_swap_disk_of_nothing_is_refused() {
    refuses(&["--socket-path", "/x/a", "--quota", "0"], &["quota of 0"]);
    refuses(
        &["--socket-path", "/x/a", "--swap-size", "0"],
        &["swap disk of 0"],
    );
    refuses(&["--vm", "socket=/x/a,quota=4095"], &["4095", "4096"]);
}

#[test]
fn a_memory_limit_above_the_hosts_memory_is_refused() {
    let args = ["--socket-path", "/x/a", "--memory-limit", "1000T"];
    refuses(&args, &["1000 TiB", "--memory-limit"]);
}

#[test]
fn a_memory_limit_that_is_too_small_is_refused() {
    let args = ["--socket-path", "/x/a", "--memory-limit", "1"];
    refuses(&args, &["memory limit of 1 bytes"]);
}

#[test]
fn a_socket_that_cannot_be_made_is_named() {
    let nowhere = ["--socket-path", "/nowhere/at/all/vm.sock"];
    refuses(&nowhere, &["/nowhere/at/all/vm.sock", "No such file"]);
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("vm.sock");
    fs::write(&file, "precious").unwrap();
    let path = file.to_str().unwrap();
    refuses(&["--socket-path", path], &[path, "is no socket"]);
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let group = ["--socket-path", path, "--socket-group", "no-such-group"];
    refuses(&group, &["no-such-group"]);
}

#[test]
fn a_socket_without_permission_is_named() {
    let dir = TempDir::new().unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(closed.join("probe"), "").is_ok() {
        // Root may write everywhere, but not into /proc.
        refuses(&["--socket-path", "/proc/vm.sock"], &["/proc/vm.sock"]);
        return;
    }
    let path = closed.join("vm.sock");
    let path = path.to_str().unwrap();
    refuses(&["--socket-path", path], &[path, "Permission denied"]);
}

#[test]
fn a_socket_in_use_is_refused_and_left_alone() {
    let mut daemon = Daemon::start(&["vm"], &[]);
    let path = daemon.socket("vm");
    refuses(
        &["--socket-path", path.to_str().unwrap()],
        &[path.to_str().unwrap(), "listens"],
    );
    assert!(daemon.is_running());
    assert!(path.exists());
}

#[test]
fn a_left_over_socket_is_replaced() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vm.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let arg = format!("socket={}", path.display());
    let daemon = Daemon::start(&[], &["--vm", &arg]);
    assert_eq!(daemon.vm_stats("vm")["connected"], false);
}

#[test]
fn an_inherited_descriptor_must_be_a_listening_socket() {
    refuses(&["--fd", "1"], &["--fd 1", "3 or higher"]);
    refuses(&["--fd=-3"], &["--fd -3", "3 or higher"]);
    refuses(&["--fd", "987"], &["987", "not open"]);
    refuses(&["--fd", "3", "--socket-path", "/x/a"], &["--fd"]);
}

#[test]
fn an_inherited_listening_socket_is_served() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("inherited.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let program = env!("CARGO_BIN_EXE_vhost-user-tmem");
    let mut daemon = std::process::Command::new("sh")
        .args(["-c", "exec \"$0\" --fd 3 3<&0 </dev/null", program])
        .stdin(OwnedFd::from(listener))
        .spawn()
        .unwrap();
    let mem = guest_memory(64 << 20);
    let mut front_end = FrontEnd::connect(&path, &mem, Ask::default()).unwrap();
    assert_eq!(front_end.driver(1).limits().quota_bytes, 1 << 30);
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    assert!(path.exists(), "it is not the daemon's to remove");
}

#[test]
fn the_service_manager_hears_when_the_sockets_are_there() {
    let dir = TempDir::new().unwrap();
    let notify = dir.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let socket = dir.path().join("vm.sock");
    let mut daemon = common::program(&["--socket-path", socket.to_str().unwrap()])
        .env("NOTIFY_SOCKET", &notify)
        .spawn()
        .unwrap();
    let mut said = [0; 64];
    let len = manager.recv(&mut said).unwrap();
    assert_eq!(&said[..len], b"READY=1");
    assert!(socket.exists());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn capabilities_are_printed_as_json() {
    let output = run(&["--print-capabilities"]);
    assert!(output.status.success());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["type"], "tmem");
}

#[test]
fn help_says_how_to_use_it_with_qemu_and_cloud_hypervisor() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for word in [
        "vhost-user-test-device-pci",
        "share=on",
        "--generic-vhost-user",
        "--memory-limit",
        "[default: 1G]",
    ] {
        assert!(help.contains(word), "'{word}' is not in: {help}");
    }
}

#[test]
fn a_signal_ends_the_daemon_with_0_and_removes_its_sockets() {
    for signal in [Signal::TERM, Signal::INT] {
        let daemon = Daemon::start(&["one", "two"], &[]);
        assert!(daemon.socket("one").exists());
        let (status, log, left) = daemon.end(signal);
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("serving 2 virtual machines"), "{log}");
        assert_eq!(left, Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn sockets_are_for_their_owner_unless_a_group_is_given() {
    let mode = |daemon: &Daemon, name: &str| {
        let metadata = fs::metadata(daemon.socket(name)).unwrap();
        assert!(metadata.file_type().is_socket());
        metadata.permissions().mode() & 0o777
    };
    let daemon = Daemon::start(&["vm"], &[]);
    assert_eq!(mode(&daemon, "vm"), 0o600);
    assert_eq!(mode(&daemon, "control"), 0o600);
    let group = rustix::process::getgid().as_raw().to_string();
    let daemon = Daemon::start(&["vm"], &["--socket-group", &group]);
    assert_eq!(mode(&daemon, "vm"), 0o660);
    assert_eq!(mode(&daemon, "control"), 0o600);
}

#[test]
fn the_control_socket_answers_what_it_knows_and_refuses_the_rest() {
    let daemon = Daemon::start(&["vm"], &[]);
    let status =
        |method: &str, path: &str, body: &str| daemon.control(method, path, body).unwrap().0;
    let (code, metrics) = daemon.control("GET", "/metrics", "").unwrap();
    assert_eq!(code, 200);
    for line in [
        "# TYPE tmem_store_held_bytes gauge",
        "tmem_vm_connected{vm=\"vm\"} 0",
        "tmem_vm_puts_total{vm=\"vm\"} 0",
        "tmem_device_faults_total{vm=\"vm\",fault=\"chain_broken\"} 0",
        "tmem_device_requests_total{vm=\"vm\",op=\"put\"} 0",
    ] {
        assert!(metrics.lines().any(|is| is == line), "no '{line}'");
    }
    assert_eq!(status("GET", "/", ""), 404);
    assert_eq!(status("POST", "/metrics", ""), 405);
    assert_eq!(status("PATCH", "/v1/vms/nobody", "{\"quota\": 1}"), 404);
    for body in [
        "",
        "{}",
        "[1]",
        "{\"quota\": -1}",
        "{\"quota\": 1, \"x\": 2}",
        "{\"quota\": \"debit\"}",
        "{\"weight\": 0}",
    ] {
        assert_eq!(status("PATCH", "/v1/vms/vm", body), 400, "{body}");
    }
    assert_eq!(status("PATCH", "/v1/vms/vm", "{\"quota\": 8192}"), 200);
    assert_eq!(daemon.vm_stats("vm")["quota_bytes"], 8192);
    let body = "{\"quota\": \"credit:3M\", \"weight\": 7}";
    assert_eq!(status("PATCH", "/v1/vms/vm", body), 200);
    let stats = daemon.vm_stats("vm");
    assert_eq!(stats["quota_on_credit"], true);
    // Nobody is there that has given anything back.
    assert_eq!(stats["quota_bytes"], 3 << 20);
    assert_eq!(stats["weight"], 7);
    assert_eq!(status("PATCH", "/v1/vms/vm", "{\"codec\": \"gzip\"}"), 400);
    assert_eq!(daemon.vm_stats("vm")["codec"], "auto");
    assert_eq!(status("PATCH", "/v1/vms/vm", "{\"codec\": \"none\"}"), 200);
    assert_eq!(daemon.vm_stats("vm")["codec"], "none");
}

#[test]
fn settings_can_differ_from_vm_to_vm() {
    let dir = TempDir::new().unwrap();
    let small = format!(
        "socket={},name=small,quota=8M,weight=300,swap-size=40M,codec=lz4,give-back=any",
        dir.path().join("s").display()
    );
    let daemon = Daemon::start(&["large"], &["--quota", "64M", "--vm", &small]);
    let large = daemon.vm_stats("large");
    assert_eq!(large["quota_bytes"], 64 << 20);
    assert_eq!(
        large["swap_pages"],
        2 * (64 << 20) / 4096,
        "twice the quota"
    );
    let small = daemon.vm_stats("small");
    assert_eq!(small["quota_bytes"], 8 << 20);
    assert_eq!(
        (&small["weight"], &large["weight"]),
        (&300.into(), &100.into())
    );
    assert_eq!(small["swap_pages"], (40 << 20) / 4096);
    assert_eq!(
        (&small["codec"], &large["codec"]),
        (&"lz4".into(), &"auto".into())
    );
}

#[test]
fn a_client_that_says_nothing_does_not_keep_the_daemon_from_ending() {
    let daemon = Daemon::start(&["vm"], &[]);
    let socket = daemon.socket("control");
    let silent = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let pending = std::os::unix::net::UnixStream::connect(daemon.socket("vm")).unwrap();
    until("the front end is seen", || {
        // The silent client is answered with a timeout first.
        daemon.vm_stats("vm")["connected"] == true
    });
    let (status, _, _) = daemon.end(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    drop((silent, pending));
}

#[test]
fn a_client_that_trickles_is_turned_away_and_others_are_served() {
    let daemon = Daemon::start(&["vm"], &[]);
    let mut slow = std::os::unix::net::UnixStream::connect(daemon.socket("control")).unwrap();
    let mut answer = slow.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        // Each byte comes in time, the request never. Ends when the daemon closes.
        while slow.write_all(b"G").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    // Waits its turn, and no longer.
    assert_eq!(daemon.vm_stats("vm")["connected"], false);
    let mut text = Vec::new();
    // The daemon may close with bytes unread, which resets the connection.
    let _ = answer.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    assert!(text.is_empty() || text.contains(" 408 "), "{text}");
    trickle.join().unwrap();
    let (status, _, _) = daemon.end(Signal::TERM);
    assert_eq!(status.code(), Some(0));
}
