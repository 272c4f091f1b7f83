// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random control operations while front ends come, work and go: what each machine has put
//! persistently is what it gets, and when all are gone, so are file descriptors, threads and memory.
//!
//! Some seconds, or as many as TMEM_SOAK_SECONDS says (`cargo xtask soak --control`), in sessions of at most a
//! minute. TMEM_SOAK_SEED repeats a run's choices.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE, until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use tempfile::TempDir;
use vhost_user_tmem::testing::{Ask, FrontEnd, Notifier, guest_memory};
use virtio_tmem::testing::{Driver, Transport, page_of};
use virtio_tmem::wire::PoolKind;

const OBJECT: [u8; 24] = [3; 24];

/// Machines that operations are about; those with a front end come first.
const MACHINES: u64 = 8;
const SERVED: u64 = 3;

/// Numbers that follow from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % most
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A random operation; its status must be one of those that can be.
fn operate(daemon: &Daemon, random: &mut Random) {
    let number = random.below(MACHINES);
    // Front ends here are of the other personality.
    let may_be_disk = number >= SERVED;
    let personality = match may_be_disk && random.below(2) == 0 {
        true => r#", "personality": "blk", "size": "64M""#,
        false => "",
    };
    let name = format!("vm{number}");
    let path = format!("/v1/vms/{name}");
    let quota = random.pick(&["1M", "8M", "64M", "credit:1M", "credit"]);
    let weight = 1 + random.below(1000);
    let (method, path, body, may): (&str, String, String, &[u16]) = match random.below(11) {
        0 | 1 => {
            let body = format!(
                r#"{{"name": "{name}", "quota": "{quota}", "weight": {weight}{personality}}}"#
            );
            ("POST", "/v1/vms".into(), body, &[201, 409])
        }
        // The other thread may be removing it: 409.
        2 => ("DELETE", path, String::new(), &[204, 404, 409]),
        3 => (
            "PATCH",
            path,
            format!(r#"{{"quota": "{quota}"}}"#),
            &[200, 404, 409],
        ),
        4 => {
            let codec = random.pick(&["auto", "lz4", "zstd", "none"]);
            let body = format!(r#"{{"weight": {weight}, "codec": "{codec}"}}"#);
            ("PATCH", path, body, &[200, 404, 409])
        }
        5 => {
            let body = format!(r#"{{"frozen": {}}}"#, random.below(3) == 0);
            let may: &[u16] = match may_be_disk {
                true => &[200, 400, 404, 409],
                false => &[200, 404, 409],
            };
            ("PATCH", path, body, may)
        }
        6 => {
            let body = format!(r#"{{"grace": {}}}"#, random.below(3));
            ("PATCH", path, body, &[200, 404, 409])
        }
        7 => {
            let body = format!(r#"{{"bytes": {}}}"#, random.below(8 << 20));
            ("POST", path + "/flush", body, &[200, 404])
        }
        8 => {
            let may: &[u16] = match may_be_disk {
                true => &[200, 404, 409],
                false => &[200, 404],
            };
            ("POST", path + "/detach", String::new(), may)
        }
        9 => (
            "PATCH",
            path,
            random.pick(&["", "[]", "{", r#"{"quota": {}}"#]).into(),
            &[400, 404],
        ),
        _ => (
            "GET",
            random
                .pick(&["/v1/vms", "/v1/freeable", "/v1/stats", "/metrics"])
                .into(),
            String::new(),
            &[200],
        ),
    };
    let (status, said) = daemon.control(method, &path, &body).unwrap();
    assert!(
        may.contains(&status),
        "{method} {path} {body}: {status} {said}"
    );
}

/// The notifier of a driver that gives up when the connection has ended.
struct Patient {
    notifier: Notifier,
    connection: OwnedFd,
}

impl Patient {
    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.connection, PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    }
}

/// What a driver ends with that gave up.
struct Gone;

impl Transport for Patient {
    fn kick(&mut self) {
        self.notifier.kick();
    }

    fn wait(&mut self) {
        let began = Instant::now();
        while !self.notifier.rings_within(Duration::from_millis(100)) {
            if self.has_ended() {
                // No panic that anybody has to read.
                std::panic::resume_unwind(Box::new(Gone));
            }
            assert!(began.elapsed() < PATIENCE, "the device does not answer");
        }
    }
}

/// A front end that comes and goes until `over`: its pages are those that it put, unless its machine was
/// removed or its grace period ended, which another instance says.
fn drive(socket: &Path, seed: u64, over: &AtomicBool, requests: &AtomicU64) {
    let mut random = Random(seed);
    while !over.load(Relaxed) {
        let mem = guest_memory(16 << 20);
        // It may not be there, or end at any time.
        let Ok(mut front_end) = FrontEnd::connect(socket, &mem, Ask::default()) else {
            std::thread::yield_now();
            continue;
        };
        let (queue, notifier) = front_end.queue(1);
        let notifier = Patient {
            notifier,
            connection: front_end.socket(),
        };
        let mut driver = Driver::new(&mem, queue, 4 << 20, notifier);
        let rounds = random.below(200);
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..rounds {
                let kind = [PoolKind::Persistent, PoolKind::Ephemeral][(round % 2) as usize];
                let pool = u32::from(kind == PoolKind::Ephemeral);
                driver.create_pool(pool, kind);
                let index = random.below(64);
                let put = driver.put(pool, &OBJECT, index, &[page_of(index)]);
                let got = driver.get(pool, &OBJECT, index, 1);
                let is_there = got.status().is_ok() && got.pages(1)[0].is_ok();
                if is_there {
                    assert_eq!(got.page(1, 0), page_of(index), "a wrong page");
                }
                if kind == PoolKind::Persistent && put.status().is_ok() && put.pages(1)[0].is_ok() {
                    assert!(is_there, "a persistent page is gone");
                }
                requests.fetch_add(2, Relaxed);
            }
        }));
        if let Err(panic) = worked
            && !panic.is::<Gone>()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn count(daemon: &Daemon, what: &str) -> usize {
    let dir = format!("/proc/{}/{what}", daemon.pid());
    fs::read_dir(dir).unwrap().count()
}

/// What its file descriptors are, and its threads.
fn open_files(daemon: &Daemon) -> String {
    let entries = |what: &str| fs::read_dir(format!("/proc/{}/{what}", daemon.pid())).unwrap();
    let files = entries("fd").filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    let names =
        entries("task").filter_map(|it| fs::read_to_string(it.ok()?.path().join("comm")).ok());
    let (files, names): (Vec<_>, Vec<_>) = (files.collect(), names.collect());
    format!("{files:?}, {names:?}")
}

/// Resident bytes that are its own.
fn private(daemon: &Daemon) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{}/statm", daemon.pid())).unwrap();
    let pages: Vec<u64> = statm
        .split(' ')
        .filter_map(|it| it.trim().parse().ok())
        .collect();
    (pages[1] - pages[2]) * 4096
}

fn remove_all(daemon: &Daemon) {
    let (_, body) = daemon.control("GET", "/v1/vms", "").unwrap();
    let all: Value = serde_json::from_str(&body).unwrap();
    for vm in all["vms"].as_array().unwrap() {
        let path = format!("/v1/vms/{}", vm["name"].as_str().unwrap());
        assert_eq!(daemon.control("DELETE", &path, "").unwrap().0, 204);
    }
}

#[test]
fn random_operations_leave_nothing_behind() {
    let seconds = environment("TMEM_SOAK_SECONDS").unwrap_or(4);
    let seed = environment("TMEM_SOAK_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::from(now.unwrap().subsec_nanos())
    });
    println!("TMEM_SOAK_SEED={seed}");
    let dir = TempDir::new().unwrap();
    let (state, run) = (dir.path().join("state"), dir.path().join("run"));
    let daemon = Daemon::start(
        &[],
        &[
            "--state",
            state.to_str().unwrap(),
            "--run",
            run.to_str().unwrap(),
        ],
    );
    let session = |time: Duration, seed: u64| {
        let (over, requests, operations) =
            (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for nth in 0..SERVED {
                let (over, requests) = (&over, &requests);
                let socket = run.join(format!("vm{nth}.sock"));
                scope.spawn(move || drive(&socket, seed + nth, over, requests));
            }
            let threads: Vec<_> = (0..2)
                .map(|nth| {
                    let (daemon, operations) = (&daemon, &operations);
                    scope.spawn(move || {
                        let mut random = Random(seed + 100 + nth);
                        let began = Instant::now();
                        while began.elapsed() < time {
                            operate(daemon, &mut random);
                            operations.fetch_add(1, Relaxed);
                        }
                    })
                })
                .collect();
            let ended: Vec<_> = threads.into_iter().map(|it| it.join()).collect();
            // Whatever they found, the others end, too.
            over.store(true, Relaxed);
            remove_all(&daemon);
            ended.into_iter().for_each(|it| it.unwrap());
        });
        println!(
            "{} operations, {} requests",
            operations.into_inner(),
            requests.into_inner()
        );
    };
    // What is set up once is there after the first.
    session(Duration::from_secs(1), seed);
    let idle = || (count(&daemon, "fd"), count(&daemon, "task"));
    until("the daemon is at rest", || idle().1 <= 7);
    let mut before = idle();
    let memory = private(&daemon);
    let (mut left, mut nth) = (seconds, 0);
    while left > 0 {
        let some = left.min(60);
        left -= some;
        nth += 1;
        session(Duration::from_secs(some), seed + 1000 * nth);
        let began = Instant::now();
        // Fewer than were seen first: a descriptor was about to be closed then.
        let now = loop {
            let now = idle();
            if now.0 <= before.0 && now.1 <= before.1 {
                break now;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "fds and threads: {before:?} before, {now:?} now: {}",
                open_files(&daemon)
            );
            std::thread::sleep(Duration::from_millis(2));
        };
        before = now;
        // What the heap keeps, it trims within a while.
        until("memory is as before", || {
            private(&daemon) < memory + (6 << 20)
        });
        println!(
            "{} of {seconds} s; fds, threads: {before:?}; private memory: {memory}, now {}",
            seconds - left,
            private(&daemon)
        );
    }
    assert_eq!(fs::read_dir(state.join("vms")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&run).unwrap().count(), 0);
    let (_, stats) = daemon.control("GET", "/v1/stats", "").unwrap();
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats["store"]["held_bytes"], 0);
}
