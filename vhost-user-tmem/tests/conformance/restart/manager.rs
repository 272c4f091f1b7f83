// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The file descriptor store of a service manager, from sd_notify(3), sd_listen_fds(3) and
//! systemd.exec(5).

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

type Kept = Arc<Mutex<Vec<(String, OwnedFd)>>>;

pub(super) struct Manager {
    socket: PathBuf,
    kept: Kept,
}

impl Manager {
    /// Listens at this path as long as the test runs.
    pub(super) fn start(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let kept = Kept::default();
        let store = kept.clone();
        std::thread::spawn(move || {
            loop {
                take(&socket, &store);
            }
        });
        Self {
            socket: path.to_owned(),
            kept,
        }
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

/// Does what one message says.
fn take(socket: &UnixDatagram, kept: &Kept) {
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
}
