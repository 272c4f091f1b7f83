// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Front ends that send messages in pieces, stop within one, send file descriptors that belong to
//! none, do not read answers, or leave anywhere. Others are served meanwhile, and nothing of it stays.
//! The messages are bytes of the vhost-user specification.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use common::{Daemon, PATIENCE, until};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;
use vhost_user_tmem::testing::{Ask, FrontEnd, guest_memory};
use virtio_tmem::testing::page_of;
use virtio_tmem::wire::{PoolKind, Status};

/// Of a daemon whose machines are at rest: the first one, its log, the store, the watchers of
/// front ends and of kicks, control, and the one that makes threads for images.
const THREADS: usize = 7;

const OBJECT: [u8; 24] = [3; 24];
const MEMORY: u64 = 64 << 20;

/// A message with this payload.
fn message(request: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut bytes = Vec::new();
    for word in [request, 1, length] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(payload);
    bytes
}

/// GET_FEATURES, SET_PROTOCOL_FEATURES and GET_PROTOCOL_FEATURES: two are answered.
fn script() -> Vec<u8> {
    [message(1, &[]), message(16, &[0; 8]), message(15, &[])].concat()
}

/// An answer has a header and a word.
const ANSWER: usize = 20;

/// A daemon with machines, `other` among them, and perhaps a holder of what outlives it.
struct Bed {
    daemon: Daemon,
    holder: Option<Child>,
    dir: TempDir,
}

impl Bed {
    fn new(is_kept: bool, machines: usize) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (run, state, keeper) = (path("run"), path("state"), path("keeper"));
        let mut args = vec!["--run", &run, "--state", &state];
        let mut holder = None;
        if is_kept {
            let mut command = Command::new(env!("CARGO_BIN_EXE_vhost-user-tmem"));
            holder = Some(command.args(["--holder", &keeper]).spawn().unwrap());
            until("there is a holder", || fs::exists(&keeper).unwrap());
            args.extend(["--keep-in", &keeper]);
        }
        let daemon = Daemon::start(&[], &args);
        let this = Self {
            daemon,
            holder,
            dir,
        };
        this.add("other");
        (0..machines).for_each(|nth| this.add(&format!("vm{nth}")));
        this
    }

    fn add(&self, name: &str) {
        let body = format!(r#"{{"name": "{name}"}}"#);
        let (status, said) = self.daemon.control("POST", "/v1/vms", &body).unwrap();
        assert_eq!(status, 201, "{said}");
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("run/{name}.sock"))
    }

    fn connect(&self, name: &str) -> UnixStream {
        let stream = UnixStream::connect(self.socket(name)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn count(&self, what: &str) -> usize {
        let dir = format!("/proc/{}/{what}", self.daemon.pid());
        fs::read_dir(dir).unwrap().count()
    }

    fn is_connected(&self, name: &str) -> bool {
        self.daemon.vm_stats(name)["connected"] == true
    }

    /// Another machine is served, from its first message to a page.
    fn serve_other(&self) {
        until("the last one has left", || !self.is_connected("other"));
        let mem = guest_memory(MEMORY);
        let socket = self.socket("other");
        let mut front_end = FrontEnd::connect(&socket, &mem, Ask::default()).unwrap();
        let mut driver = front_end.driver(1);
        driver.create_pool(0, PoolKind::Persistent);
        let put = driver.put(0, &OBJECT, 0, &[page_of(1)]);
        assert_eq!(put.status(), Status::OK);
        assert_eq!(driver.get(0, &OBJECT, 0, 1).page(1, 0), page_of(1));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            // It may have ended already.
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

fn send_with_fds(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    // The daemon may have ended the connection.
    let _ = sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    );
}

#[test]
fn messages_that_stop_anywhere_hold_up_nobody_and_no_thread() {
    for is_kept in [false, true] {
        let script = script();
        let bed = Bed::new(is_kept, script.len());
        bed.serve_other();
        let at_rest = bed.count("task");
        let mut streams = Vec::new();
        for stop in 0..script.len() {
            let mut stream = bed.connect(&format!("vm{stop}"));
            stream.write_all(&script[..stop]).unwrap();
            streams.push(stream);
        }
        bed.serve_other();
        until("nobody has a thread", || bed.count("task") <= at_rest);
        bed.serve_other();
        // With the rest, a byte at a time, all is answered.
        for (stop, stream) in streams.iter_mut().enumerate() {
            for byte in &script[stop..] {
                stream.write_all(&[*byte]).unwrap();
            }
            let mut answers = [0; 2 * ANSWER];
            stream.read_exact(&mut answers).unwrap();
            assert_eq!((answers[0], answers[ANSWER]), (1, 15), "{stop}");
        }
        until("nobody has a thread", || bed.count("task") <= at_rest);
    }
}

#[test]
fn front_ends_that_leave_anywhere_leave_nothing_behind() {
    for is_kept in [false, true] {
        let script = script();
        let bed = Bed::new(is_kept, 1);
        let leave_after = |stop: usize| {
            let mut stream = bed.connect("vm0");
            until("it is served", || bed.is_connected("vm0"));
            stream.write_all(&script[..stop]).unwrap();
            drop(stream);
            until("it has left", || !bed.is_connected("vm0"));
        };
        bed.serve_other();
        leave_after(0);
        until("it is at rest", || bed.count("task") <= THREADS);
        let before = bed.count("fd");
        (0..=script.len()).for_each(leave_after);
        bed.serve_other();
        until("nothing is left", || {
            bed.count("task") <= THREADS && bed.count("fd") <= before
        });
    }
}

#[test]
fn descriptors_that_belong_to_no_message_are_closed() {
    for is_kept in [false, true] {
        let bed = Bed::new(is_kept, 1);
        bed.serve_other();
        until("it is at rest", || bed.count("task") <= THREADS);
        let before = bed.count("fd");
        let file = fs::File::open("/dev/null").unwrap();
        let many = |count: usize| vec![file.as_fd(); count];
        // With each byte of a message that has none, body and header.
        let mut stream = bed.connect("vm0");
        for byte in message(16, &[0; 8]) {
            send_with_fds(&stream, &[byte], &many(32));
        }
        // It is refused, or nothing came of them.
        let _ = stream.read(&mut [0; ANSWER]);
        drop(stream);
        until("it has left", || !bed.is_connected("vm0"));
        // More than any message has, with half of one.
        let stream = bed.connect("vm0");
        for _ in 0..8 {
            send_with_fds(&stream, &[1], &many(64));
        }
        until("it is served", || bed.is_connected("vm0"));
        bed.serve_other();
        drop(stream);
        until("nothing is left", || bed.count("fd") <= before);
    }
}

#[test]
fn answers_that_nobody_reads_hold_up_nobody_and_are_all_there_later() {
    for is_kept in [false, true] {
        let bed = Bed::new(is_kept, 1);
        bed.serve_other();
        let at_rest = bed.count("task");
        let mut stream = bed.connect("vm0");
        stream.set_nonblocking(true).unwrap();
        let ask = message(1, &[]);
        let (mut asked, mut sent) = (0, 0);
        // Until nothing more is taken, and the daemon has given up on it for now.
        until("nobody has a thread", || {
            loop {
                match stream.write(&ask[sent..]) {
                    Ok(more) => sent += more,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        break;
                    }
                }
                if sent == ask.len() {
                    (asked, sent) = (asked + 1, 0);
                }
            }
            asked > 0 && bed.count("task") <= at_rest
        });
        bed.serve_other();
        let mut answers: Vec<u8> = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        until("all is answered", || {
            if sent > 0
                && let Ok(more) = stream.write(&ask[sent..])
            {
                sent += more;
                if sent == ask.len() {
                    (asked, sent) = (asked + 1, 0);
                }
            }
            while let Ok(read) = stream.read(&mut buffer) {
                answers.extend(&buffer[..read]);
            }
            sent == 0 && answers.len() == asked * ANSWER
        });
        assert!(answers.chunks(ANSWER).all(|answer| answer[0] == 1));
        assert!(asked > 100, "{asked}");
    }
}

#[test]
fn front_end_that_comes_while_an_idle_one_is_connected_is_turned_away() {
    let bed = Bed::new(false, 1);
    bed.serve_other();
    let at_rest = bed.count("task");
    let mut first = bed.connect("vm0");
    first.write_all(&message(1, &[])).unwrap();
    first.read_exact(&mut [0; ANSWER]).unwrap();
    until("nobody has a thread", || bed.count("task") <= at_rest);
    for _ in 0..3 {
        assert_eq!(bed.connect("vm0").read(&mut [0; 1]).unwrap_or(0), 0);
    }
    first.write_all(&message(1, &[])).unwrap();
    first.read_exact(&mut [0; ANSWER]).unwrap();
    drop(first);
    until("it has left", || !bed.is_connected("vm0"));
    let mut next = bed.connect("vm0");
    next.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    next.write_all(&message(1, &[])).unwrap();
    next.read_exact(&mut [0; ANSWER]).unwrap();
}
