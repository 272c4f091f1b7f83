// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The file descriptor store of a service manager, from sd_notify(3), sd_listen_fds(3) and
//! systemd.exec(5).

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

type Kept = Arc<Mutex<Vec<(String, OwnedFd)>>>;

pub(super) struct Manager {
    socket: PathBuf,
    kept: Kept,
    is_stuck: Arc<AtomicBool>,
}

impl Manager {
    /// Listens at this path as long as the test runs.
    pub(super) fn start(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let kept = Kept::default();
        let store = kept.clone();
        let is_stuck = Arc::new(AtomicBool::new(false));
        let stuck = is_stuck.clone();
        std::thread::spawn(move || {
            // What it has received and does nothing about.
            let mut undone = Vec::new();
            loop {
                undone.extend(take(&socket, &store, &stuck));
            }
        });
        Self {
            socket: path.to_owned(),
            kept,
            is_stuck,
        }
    }

    /// From now on it does nothing that it is told, and answers no barrier.
    pub(super) fn get_stuck(&self) {
        self.is_stuck.store(true, SeqCst);
    }

    /// Descriptors that are kept.
    pub(super) fn count(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// Starts a program as a service, which has the descriptors from 3 on; and what is to be
    /// open until it is started.
    pub(super) fn command(&self, program: &Path) -> (Command, Vec<OwnedFd>) {
        let kept = self.kept.lock().unwrap();
        let (mut script, mut names, mut passed) = (String::new(), Vec::new(), Vec::new());
        for (at, (name, fd)) in (3..).zip(kept.iter()) {
            // Above those that are set.
            let fd = fcntl_dupfd_cloexec(fd, 500).unwrap();
            fcntl_setfd(&fd, FdFlags::empty()).unwrap();
            let from = fd.as_raw_fd();
            script.push_str(&format!(" {at}<&{from} {from}<&-"));
            names.push(name.clone());
            passed.push(fd);
        }
        let mut command = Command::new("bash");
        command
            .arg("-c")
            .arg(format!("export LISTEN_PID=$$; exec \"$0\" \"$@\" {script}"))
            .arg(program)
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("NOTIFY_SOCKET", &self.socket)
            .env("FDSTORE", "64");
        (command, passed)
    }
}

/// Does what one message says. Unless it is stuck: then what came with it.
fn take(socket: &UnixDatagram, kept: &Kept, is_stuck: &AtomicBool) -> Vec<OwnedFd> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket.as_fd(),
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    let bytes = bytes.get(..received.unwrap().bytes).unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            fds.extend(sent);
        }
    }
    if is_stuck.load(SeqCst) {
        return fds;
    }
    let has = |line: &str| text.lines().any(|other| other == line);
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
    if has("FDSTORE=1") {
        assert!(has("FDPOLL=0"), "{text}");
        let name = name.unwrap();
        assert!(name.len() <= 255 && !name.contains(':'), "{name}");
        let mut kept = kept.lock().unwrap();
        kept.extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
    } else if has("FDSTOREREMOVE=1") {
        let mut kept = kept.lock().unwrap();
        kept.retain(|(other, _)| Some(other.as_str()) != name);
    }
    // That of a barrier is closed here.
    Vec::new()
}
