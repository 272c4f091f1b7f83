// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sockets that the daemon is started with, by number, or by name as the service manager
//! passes those of socket units on (sd_listen_fds(3)).
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::until;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use vhost_user_tmem::testing::{Ask, FrontEnd, guest_memory};

/// A daemon that was given descriptors; killed if it is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    /// Starts it with `passed` from 3 on. With names, `process` is for whom the manager says
    /// they are: `$$` is the daemon.
    fn start(passed: Vec<OwnedFd>, names: Option<(&str, &str)>, args: &[&str]) -> Self {
        let mut script = String::new();
        let passed: Vec<_> = passed
            .into_iter()
            .zip(3..)
            .map(|(fd, at)| {
                // Above those that are set.
                let fd = fcntl_dupfd_cloexec(fd, 500).unwrap();
                fcntl_setfd(&fd, FdFlags::empty()).unwrap();
                let from = fd.as_raw_fd();
                write!(script, " {at}<&{from} {from}<&-").unwrap();
                fd
            })
            .collect();
        let (names, process) = names.unzip();
        let export = process.map(|process| format!("export LISTEN_PID={process};"));
        let mut command = Command::new("bash");
        command
            .arg("-c")
            .arg(format!(
                "{} exec \"$0\" \"$@\" {script}",
                export.unwrap_or_default()
            ))
            .arg(env!("CARGO_BIN_EXE_vhost-user-tmem"))
            .args(["--memory-limit", "256M"])
            .args(args)
            .stderr(Stdio::piped());
        if let Some(names) = names {
            command.env("LISTEN_FDS", passed.len().to_string());
            command.env("LISTEN_FDNAMES", names);
        }
        Self(command.spawn().unwrap())
    }

    /// It ends by itself, and says one sentence with each of `words`.
    fn refuses(mut self, words: &[&str]) {
        let mut said = String::new();
        let stderr = self.0.stderr.take();
        stderr.unwrap().read_to_string(&mut said).unwrap();
        assert!(!self.0.wait().unwrap().success(), "{said}");
        for word in words {
            assert!(said.contains(word), "'{word}' is not in: {said}");
        }
    }

    fn end(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

/// A folder for sockets.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn listen(&self, name: &str) -> OwnedFd {
        // Left by the last daemon, which the manager would not have closed.
        let _ = fs::remove_file(self.at(name));
        UnixListener::bind(self.at(name)).unwrap().into()
    }

    fn option(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }
}

fn ask(control: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(control).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// The quota of the machine behind a socket.
fn quota(socket: &Path) -> u64 {
    let mem = guest_memory(64 << 20);
    let mut front_end = FrontEnd::connect(socket, &mem, Ask::default()).unwrap();
    front_end.driver(1).limits().quota_bytes
}

#[test]
fn sockets_of_the_service_manager_are_known_by_their_names() {
    let place = Place::new();
    let (config, run) = (place.option("config"), place.option("run"));
    fs::create_dir(&config).unwrap();
    fs::write(place.at("config/web2.toml"), "quota = '64M'").unwrap();
    // In between is what an earlier daemon has had kept, which is not a socket.
    let kept = fs::File::open("/dev/null").unwrap().into();
    let passed = vec![
        place.listen("web1"),
        kept,
        place.listen("control"),
        place.listen("web2"),
    ];
    let names = "vm-web1:tmem+vm:control:vm-web2";
    let state = place.option("state");
    let args = ["--config", &config, "--run", &run, "--state", &state];
    let daemon = Daemon::start(passed, Some((names, "$$")), &args);
    let control = place.at("control");
    let vm = |name: &str| ask(&control, "GET", &format!("/v1/vms/{name}"), "").1;
    assert_eq!(vm("web1")["origin"], "service-manager");
    assert_eq!(vm("web1")["socket"], place.option("web1"));
    assert_eq!(vm("web2")["origin"], "file");
    assert_eq!(vm("web2")["socket"], place.option("web2"));
    assert_eq!(quota(&place.at("web1")), 1 << 30);
    assert_eq!(quota(&place.at("web2")), 64 << 20);
    let (status, refusal) = ask(&control, "DELETE", "/v1/vms/web1", "");
    assert_eq!(status, 409);
    let reason = refusal["error"].as_str().unwrap();
    assert!(reason.contains("socket unit"), "{reason}");
    // Others are served as always.
    assert_eq!(
        ask(&control, "POST", "/v1/vms", r#"{"name": "web3"}"#).0,
        201
    );
    assert_eq!(quota(&place.at("run/web3.sock")), 1 << 30);
    daemon.end();
    for name in ["web1", "web2", "control"] {
        assert!(place.at(name).exists(), "it is not the daemon's to remove");
    }
}

#[test]
fn metrics_are_read_on_a_port_of_the_service_manager() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let passed = vec![place.listen("control"), listener.into()];
    let daemon = Daemon::start(passed, Some(("control:metrics", "$$")), &[]);
    let said = tcp::ask(at, "GET /metrics HTTP/1.1\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert!(said.contains("\ntmem_store_held_bytes "), "{said}");
    daemon.end();
    // Others reach it, or it is not TCP.
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let start = |passed: OwnedFd| {
        let passed = vec![place.listen("control"), passed];
        Daemon::start(passed, Some(("control:metrics", "$$")), &[])
    };
    start(everywhere.into()).refuses(&["0.0.0.0", "--metrics-remote"]);
    start(place.listen("metrics")).refuses(&["'metrics'", "ListenStream=127.0.0.1:PORT"]);
}

#[test]
fn a_machine_of_the_api_may_have_its_socket_from_the_service_manager() {
    let place = Place::new();
    let (state, run) = (place.option("state"), place.option("run"));
    let args = ["--state", &state, "--run", &run];
    let start =
        |passed: Vec<OwnedFd>, names: &str| Daemon::start(passed, Some((names, "$$")), &args);
    let control = place.at("control");
    let daemon = start(vec![place.listen("control")], "control");
    let body = r#"{"name": "web1", "quota": "32M"}"#;
    assert_eq!(ask(&control, "POST", "/v1/vms", body).0, 201);
    daemon.end();
    let passed = vec![place.listen("control"), place.listen("web1")];
    let daemon = start(passed, "control:vm-web1");
    assert_eq!(ask(&control, "GET", "/v1/vms/web1", "").1["origin"], "api");
    assert_eq!(quota(&place.at("web1")), 32 << 20);
    // Removed and added again, it has the same socket.
    until("the front end has left", || {
        ask(&control, "GET", "/v1/vms/web1", "").1["connected"] == false
    });
    assert_eq!(ask(&control, "DELETE", "/v1/vms/web1", "").0, 204);
    let body = r#"{"name": "web1", "quota": "16M"}"#;
    assert_eq!(ask(&control, "POST", "/v1/vms", body).0, 201);
    assert_eq!(quota(&place.at("web1")), 16 << 20);
    daemon.end();
}

#[test]
fn sockets_have_numbers_whoever_opened_them() {
    let place = Place::new();
    let args = ["--vm", "fd=3,name=a,quota=32M", "--vm", "fd=4,quota=64M"];
    // Passed on by the manager as well, under any name.
    for names in [None, Some(("vm-b:anything", "$$"))] {
        let daemon = Daemon::start(vec![place.listen("a"), place.listen("b")], names, &args);
        assert_eq!(quota(&place.at("a")), 32 << 20);
        assert_eq!(quota(&place.at("b")), 64 << 20);
        daemon.end();
    }
}

#[test]
fn what_is_passed_on_by_mistake_is_named() {
    let place = Place::new();
    let (state, run) = (place.option("state"), place.option("run"));
    let args = ["--state", &state, "--run", &run];
    let refuses = |fd: OwnedFd, names: &str, words: &[&str]| {
        Daemon::start(vec![fd], Some((names, "$$")), &args).refuses(words);
    };
    let listener = || place.listen("x");
    refuses(listener(), "web1", &["'web1'", "FileDescriptorName="]);
    refuses(listener(), "", &["'unknown'", "FileDescriptorName="]);
    refuses(listener(), "vm-../x", &["is not a name"]);
    let datagrams = UnixDatagram::unbound().unwrap().into();
    refuses(datagrams, "control", &["'control'", "ListenStream="]);
    let two = vec![place.listen("y"), place.listen("z")];
    Daemon::start(two, Some(("control:control", "$$")), &args).refuses(&["two for the same"]);
    // For another process.
    Daemon::start(vec![listener()], Some(("vm-web1", "1")), &args)
        .refuses(&["no virtual machine to serve"]);
}
