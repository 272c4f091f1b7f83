// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Machines that are added and removed while daemons run.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use super::host::{Host, Outside, wait_for};
use crate::front_end::FrontEnd;
use crate::request::{EXISTS, OK, create_pool, get, put};

const MEMORY: u64 = 1 << 20;

/// Directories of daemons that have a control API.
pub(crate) struct Places(TempDir);

impl Places {
    pub(crate) fn new() -> Self {
        let places = tempfile::tempdir_in("/dev/shm").unwrap();
        for name in ["state", "run"] {
            std::fs::create_dir(places.path().join(name)).unwrap();
        }
        Self(places)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn control(&self) -> UnixStream {
        UnixStream::connect(self.path("control")).unwrap()
    }

    pub(crate) fn host(&self, outside: Outside) -> Host {
        self.host_with(outside, &[])
    }

    /// With more of the command line.
    pub(super) fn host_with(&self, outside: Outside, more: &[&str]) -> Host {
        let text = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let options = [
            ("--control-socket", text("control")),
            ("--state", text("state")),
            ("--run", text("run")),
        ];
        let options: Vec<_> = options
            .iter()
            .flat_map(|(option, value)| [*option, value.as_str()])
            .chain(more.iter().copied())
            .collect();
        Host::start_with(outside, &options)
    }

    /// The status that the control API answers with.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> u16 {
        let answer = self.answer(method, path, body);
        let status = answer.split(' ').nth(1).unwrap();
        status.parse().unwrap()
    }

    /// All that comes back; nothing if the daemon ends.
    pub(crate) fn answer(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = self.control();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let mut answer = String::new();
        // It may have ended already.
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    pub(crate) fn add(&self) {
        let body = r#"{"name": "web1", "quota": "16M"}"#;
        assert_eq!(self.ask("POST", "/v1/vms", body), 201);
    }

    pub(crate) fn connect(&self) -> FrontEnd {
        let mut web1 = FrontEnd::connect(&self.path("run").join("web1.sock"), MEMORY);
        assert_eq!(web1.share_memory(MEMORY), Some(0));
        web1.start();
        web1
    }
}

#[test]
fn machine_that_was_added_goes_on_with_the_next_daemon() {
    for outside in [Outside::Holder, Outside::Manager] {
        let places = Places::new();
        let mut host = places.host(outside);
        places.add();
        let mut web1 = places.connect();
        assert_eq!(create_pool(&mut web1, 0), OK);
        for round in 0..4 {
            assert_eq!(put(&mut web1, 0, round.into(), round), OK);
            host.restart([Signal::KILL, Signal::TERM][usize::from(round % 2)]);
            for index in 0..=round {
                assert_eq!(get(&mut web1, 0, index.into()), (OK, OK, index));
            }
        }
    }
}

#[test]
fn machine_that_was_removed_leaves_nothing_to_the_next_of_its_name() {
    for outside in [Outside::Holder, Outside::Manager, Outside::Store] {
        let places = Places::new();
        let mut host = places.host(outside);
        let before = host.kept();
        places.add();
        let mut web1 = places.connect();
        assert_eq!(create_pool(&mut web1, 0), OK);
        assert_eq!(put(&mut web1, 0, 7, 1), OK);
        // Also one that an earlier daemon has added.
        if outside != Outside::Store {
            host.restart(Signal::KILL);
            assert_eq!(get(&mut web1, 0, 7), (OK, OK, 1));
        }
        assert_eq!(places.ask("DELETE", "/v1/vms/web1", ""), 204);
        wait_for(|| !web1.is_connected());
        wait_for(|| host.kept() <= before);

        places.add();
        for _ in 0..2 {
            let mut web1 = places.connect();
            let made = create_pool(&mut web1, 0);
            assert!([OK, EXISTS].contains(&made), "{outside:?}: {made}");
            let (_, status, _) = get(&mut web1, 0, 7);
            assert_ne!(status, OK, "{outside:?}: a page of another machine");
            drop(web1);
            host.restart(Signal::KILL);
        }
    }
}
