// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A small process that keeps file descriptors, where no service manager does.
//!
//! It serves one process of its own user at a time, and knows nothing of what it keeps.
//! A packet from the client is an operation and a name, with the descriptor to be kept;
//! one to it is an error number, or an item of the list.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::sockopt::{
    Timeout, set_socket_timeout, socket_acceptconn, socket_peercred, socket_type,
};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};

use super::message::{receive, send};
use super::{Keeper, Kept};

/// Operations.
const KEEP: u8 = b'K';
const FORGET: u8 = b'F';
const LIST: u8 = b'L';
/// Answers to a list.
const ITEM: u8 = b'I';
const END: u8 = b'E';

/// Longest name.
const MOST_NAME: usize = 200;

/// How long the other side has to answer. The holder does nothing else, and a client that
/// was killed is seen within that.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// A holder that this process is the client of.
#[derive(Debug)]
pub struct Holder {
    socket: OwnedFd,
    /// Whether it has answered so far. Afterwards an answer might be that to an earlier
    /// question.
    answers: Mutex<bool>,
}

impl Holder {
    /// Connects to the holder at `path`; and what it keeps.
    ///
    /// # Errors
    /// A sentence: nobody is there, or another process is its client.
    pub fn connect(path: &Path) -> Result<(Self, Kept)> {
        let deadline = Instant::now() + ANSWERS_WITHIN;
        loop {
            let error = match Self::connect_once(path) {
                Ok(connected) => return Ok(connected),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                let at = path.display();
                return Err(error).with_context(|| {
                    format!(
                        "cannot use the holder at '{at}'; start one with --holder {at}, and one \
                         process at a time may use it"
                    )
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn connect_once(path: &Path) -> io::Result<(Self, Kept)> {
        let socket = packet_socket()?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        if socket_peercred(&socket)?.uid != rustix::process::geteuid() {
            return Err(io::Error::other("it belongs to another user"));
        }
        for way in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, way, Some(ANSWERS_WITHIN))?;
        }
        send(socket.as_fd(), &[LIST], None)?;
        let mut kept = Kept::new();
        loop {
            match receive(socket.as_fd(), MOST_NAME + 1)? {
                (bytes, Some(fd)) if bytes.first() == Some(&ITEM) => {
                    let name = bytes.get(1..).unwrap_or_default();
                    kept.insert(String::from_utf8_lossy(name).into_owned(), fd);
                }
                (bytes, None) if bytes == [END] => break,
                _ => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let answers = Mutex::new(true);
        Ok((Self { socket, answers }, kept))
    }

    fn ask(&self, operation: u8, name: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if !*answers {
            return Err(io::Error::other("the holder does not answer any more"));
        }
        // Also if this panics.
        *answers = false;
        let bytes = [&[operation], name.as_bytes()].concat();
        send(self.socket.as_fd(), &bytes, fd)?;
        let (bytes, _) = receive(self.socket.as_fd(), 4)?;
        let errno = <[u8; 4]>::try_from(bytes.as_slice());
        let errno = errno.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
        *answers = true;
        match i32::from_le_bytes(errno) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Keeper for Holder {
    fn keep(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.ask(KEEP, name, Some(fd))
    }

    fn forget(&self, name: &str) -> io::Result<()> {
        self.ask(FORGET, name, None)
    }

    fn is_there(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::empty())];
        // It hangs up when it ends.
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
    }
}

fn packet_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// A listening socket for a holder, that this user alone may connect to.
///
/// # Errors
/// A sentence, when it cannot be made.
pub fn listener(path: &Path) -> Result<OwnedFd> {
    let at = path.display();
    let socket = packet_socket().context("cannot make a socket")?;
    let address = SocketAddrUnix::new(path).with_context(|| format!("'{at}' is too long"))?;
    // The file's mode is that of the socket.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).context("cannot set a socket's mode")?;
    let mut bound = bind(&socket, &address);
    if bound == Err(Errno::ADDRINUSE) {
        let other = packet_socket().context("cannot make a socket")?;
        match connect(&other, &address) {
            Err(Errno::CONNREFUSED) => {
                std::fs::remove_file(path)
                    .with_context(|| format!("cannot remove the left-over socket '{at}'"))?;
                bound = bind(&socket, &address);
            }
            _ => bail!("somebody listens on '{at}' already, or it is no socket of a holder"),
        }
    }
    bound.with_context(|| format!("cannot make the socket '{at}'"))?;
    listen(&socket, 8).with_context(|| format!("cannot listen on '{at}'"))?;
    Ok(socket)
}

/// Keeps what clients of `listener` leave, at most `most` descriptors, until `end` is
/// readable.
///
/// # Errors
/// When the socket is none of a holder's, or cannot be waited for.
pub fn run(listener: &OwnedFd, most: usize, end: BorrowedFd<'_>) -> Result<()> {
    ensure!(
        socket_type(listener) == Ok(SocketType::SEQPACKET)
            && socket_acceptconn(listener) == Ok(true),
        "that is no socket of a holder"
    );
    let mut kept = Kept::new();
    let mut client: Option<OwnedFd> = None;
    loop {
        let mut fds = vec![
            PollFd::from_borrowed_fd(end, PollFlags::IN),
            PollFd::new(listener, PollFlags::IN),
        ];
        if let Some(client) = &client {
            fds.push(PollFd::new(client, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error).context("cannot wait for clients"),
        }
        let is_ready = |nth: usize| fds.get(nth).is_some_and(|fd| !fd.revents().is_empty());
        let (ends, comes, speaks) = (is_ready(0), is_ready(1), is_ready(2));
        drop(fds);
        if ends {
            return Ok(());
        }
        // Before another is looked at: this one may be gone.
        if speaks {
            let goes_on = client.as_ref().map(|client| serve(client, &mut kept, most));
            if goes_on.is_none_or(|goes_on| goes_on.is_err()) {
                client = None;
            }
            continue;
        }
        if comes && let Some(new) = welcome(listener) {
            // Closed, if there is one already.
            client.get_or_insert(new);
        }
    }
}

/// Accepts a client of the same user.
fn welcome(listener: &OwnedFd) -> Option<OwnedFd> {
    let Ok(client) = accept_with(listener, SocketFlags::CLOEXEC) else {
        // Out of descriptors; who waits goes on waiting.
        std::thread::sleep(Duration::from_millis(10));
        return None;
    };
    let is_own = socket_peercred(&client).is_ok_and(|peer| peer.uid == rustix::process::geteuid());
    let times = [Timeout::Recv, Timeout::Send];
    let timed = times.map(|way| set_socket_timeout(&client, way, Some(ANSWERS_WITHIN)));
    (is_own && timed.iter().all(Result::is_ok)).then_some(client)
}

/// Serves one request; an error ends the connection.
fn serve(client: &OwnedFd, kept: &mut Kept, most: usize) -> io::Result<()> {
    let (bytes, fd) = receive(client.as_fd(), MOST_NAME + 2)?;
    let (operation, name) = bytes.split_first().ok_or(io::ErrorKind::UnexpectedEof)?;
    let name = str::from_utf8(name).map_err(|_| io::ErrorKind::InvalidData)?;
    if *operation == LIST {
        for (name, fd) in kept.iter() {
            let bytes = [&[ITEM], name.as_bytes()].concat();
            send(client.as_fd(), &bytes, Some(fd.as_fd()))?;
        }
        return send(client.as_fd(), &[END], None);
    }
    let outcome = match (*operation, fd) {
        (KEEP, _) if name.len() > MOST_NAME => Err(Errno::NAMETOOLONG),
        (KEEP, _) if kept.len() >= most => Err(Errno::NFILE),
        (KEEP, Some(_)) if kept.contains_key(name) => Err(Errno::EXIST),
        (KEEP, Some(fd)) => {
            kept.insert(name.to_owned(), fd);
            Ok(())
        }
        (FORGET, None) => {
            kept.remove(name);
            Ok(())
        }
        _ => Err(Errno::INVAL),
    };
    let errno = outcome.err().map_or(0, Errno::raw_os_error);
    send(client.as_fd(), &errno.to_le_bytes(), None)
}
