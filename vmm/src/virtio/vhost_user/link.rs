// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages to the daemon, and its answers.
//!
//! The `vhost` crate defines the messages. They are carried by this module
//! instead of by its `Frontend`, which takes a time-out for an interruption and
//! tries again for ever: a daemon that hangs would hang whoever waits for it.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, socket_with,
};
use thiserror::Error;
use vhost::vhost_user::message::{FrontendReq, VhostUserHeaderFlag, VhostUserU64};
use vm_memory::ByteValued;

/// Most files in one message: what every vhost-user daemon takes.
pub(super) const MAX_FILES: usize = 8;

/// Version of the protocol, in each message's flags.
const VERSION: u32 = 1;

/// Request, flags, and bytes that follow.
const HEADER: usize = 12;

/// Why a connection is of no more use.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error("it closed the connection")]
    Closed,
    #[error("it did not answer {0:?} in time")]
    Silent(FrontendReq),
    #[error("it answered {0:?} with something else")]
    Nonsense(FrontendReq),
    #[error("it refused {0:?}")]
    Refused(FrontendReq),
    #[error("it spoke without being asked")]
    Unasked,
    #[error("{0}")]
    Unfit(String),
    #[error("the connection failed: {0}")]
    System(#[from] Errno),
}

/// A time by which something must have been answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn within(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// What is left of it; zero when it has passed.
    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// A connection to a daemon.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
}

impl Link {
    /// Connects, if somebody listens who has room. Does not wait.
    pub(super) fn connect(address: &SocketAddrUnix) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, address)?;
        Ok(Self { socket })
    }

    /// Why the connection cannot be used any more, when it is readable although
    /// no answer is outstanding.
    pub(super) fn judge(&self) -> Broken {
        match recv(&self.socket, &mut [0; 1], RecvFlags::empty()) {
            Ok((_, 0)) => Broken::Closed,
            Ok(_) => Broken::Unasked,
            Err(error) => broken(error),
        }
    }

    /// Makes a request and waits until it is acknowledged.
    pub(super) fn tell(
        &self,
        request: FrontendReq,
        body: &[u8],
        files: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<(), Broken> {
        let flags = VhostUserHeaderFlag::NEED_REPLY.bits();
        self.send(request, flags, body, files, deadline)?;
        let outcome: VhostUserU64 = self.answer(request, deadline)?;
        match outcome.value {
            0 => Ok(()),
            _ => Err(Broken::Refused(request)),
        }
    }

    /// Makes a request that is not acknowledged, and does not wait for an
    /// answer.
    pub(super) fn begin(
        &self,
        request: FrontendReq,
        body: &[u8],
        deadline: Deadline,
    ) -> Result<(), Broken> {
        self.send(request, 0, body, &[], deadline)
    }

    /// Makes a request and waits for its answer.
    pub(super) fn ask<T: ByteValued + Default>(
        &self,
        request: FrontendReq,
        body: &[u8],
        deadline: Deadline,
    ) -> Result<T, Broken> {
        self.begin(request, body, deadline)?;
        self.answer(request, deadline)
    }

    /// Waits for the answer to `request`, which is exactly a `T`.
    pub(super) fn answer<T: ByteValued + Default>(
        &self,
        request: FrontendReq,
        deadline: Deadline,
    ) -> Result<T, Broken> {
        let mut answer = T::default();
        self.answer_into(request, answer.as_mut_slice(), deadline)?;
        Ok(answer)
    }

    /// Waits for the answer to `request`, which is exactly as long as `body`.
    pub(super) fn answer_into(
        &self,
        request: FrontendReq,
        body: &mut [u8],
        deadline: Deadline,
    ) -> Result<(), Broken> {
        let mut header = [0; HEADER];
        self.receive(request, &mut header, deadline)?;
        let [code, flags, size] = decode(&header);
        // A reply may repeat that one was needed.
        let flags = flags & !VhostUserHeaderFlag::NEED_REPLY.bits();
        let expected = VERSION | VhostUserHeaderFlag::REPLY.bits();
        let fits = usize::try_from(size).is_ok_and(|size| size == body.len());
        if code != u32::from(request) || flags != expected || !fits {
            return Err(Broken::Nonsense(request));
        }
        self.receive(request, body, deadline)
    }

    fn send(
        &self,
        request: FrontendReq,
        flags: u32,
        body: &[u8],
        files: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<(), Broken> {
        let header = encode(request, VERSION | flags, body.len());
        let message = [&header, body].concat();
        let mut left = message.as_slice();
        let mut files = files;
        while !left.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
                return Err(Broken::Unfit(format!("{} files are too many", files.len())));
            }
            let iov = [IoSlice::new(left)];
            match sendmsg(&self.socket, &iov, &mut control, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    left = left.get(count..).unwrap_or_default();
                    files = &[];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, request, deadline)?,
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }

    /// Fills `buffer`. Files that come along are closed by the system, because
    /// nobody takes them.
    fn receive(
        &self,
        request: FrontendReq,
        buffer: &mut [u8],
        deadline: Deadline,
    ) -> Result<(), Broken> {
        let mut left = buffer;
        while !left.is_empty() {
            match recv(&self.socket, &mut *left, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(Broken::Closed),
                Ok((_, count)) => left = left.get_mut(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::IN, request, deadline)?,
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }

    /// Waits until the socket is ready for `what`, or broken.
    fn wait(
        &self,
        what: PollFlags,
        request: FrontendReq,
        deadline: Deadline,
    ) -> Result<(), Broken> {
        let left = deadline.left();
        if left.is_zero() {
            return Err(Broken::Silent(request));
        }
        let left = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(&self.socket, what)], Some(&left)) {
            // Whoever waits looks at the deadline again.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How a peer that leaves shows.
fn broken(error: Errno) -> Broken {
    match error {
        Errno::PIPE | Errno::CONNRESET => Broken::Closed,
        error => Broken::System(error),
    }
}

/// A message's header, in the byte order of the machine.
fn encode(request: FrontendReq, flags: u32, size: usize) -> [u8; HEADER] {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    let mut header = [0; HEADER];
    let fields = [u32::from(request), flags, size];
    for (to, field) in header.as_chunks_mut::<4>().0.iter_mut().zip(fields) {
        *to = field.to_ne_bytes();
    }
    header
}

fn decode(header: &[u8; HEADER]) -> [u32; 3] {
    let mut fields = [0; 3];
    for (to, field) in fields.iter_mut().zip(header.as_chunks::<4>().0) {
        *to = u32::from_ne_bytes(*field);
    }
    fields
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    fn pair() -> (Link, UnixStream) {
        let (ours, peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let socket = ours.into();
        (Link { socket }, peer)
    }

    #[test]
    fn nobody_is_waited_for_longer_than_the_deadline() {
        let (link, mut peer) = pair();
        let request = FrontendReq::GET_FEATURES;
        let begun = Instant::now();
        let asked: Result<VhostUserU64, _> = link.ask(request, &[], Deadline::within(SHORT));
        assert!(matches!(asked, Err(Broken::Silent(_))), "{:?}", asked.err());
        assert!(begun.elapsed() >= SHORT);
        // In the middle of an answer.
        peer.write_all(&encode(request, 5, 8)).unwrap();
        let answer: Result<VhostUserU64, _> = link.answer(request, Deadline::within(SHORT));
        assert!(matches!(answer, Err(Broken::Silent(_))));
    }

    #[test]
    fn a_peer_that_does_not_read_holds_up_nobody() {
        let (link, _peer) = pair();
        let request = FrontendReq::SET_CONFIG;
        let sent = (0..100_000).find_map(|_| {
            let deadline = Deadline::within(SHORT);
            link.begin(request, &[0; 4096], deadline).err()
        });
        assert!(matches!(sent, Some(Broken::Silent(_))), "{sent:?}");
    }

    #[test]
    fn what_comes_unasked_is_told_from_the_end() {
        let (link, mut peer) = pair();
        peer.write_all(&[1]).unwrap();
        assert!(matches!(link.judge(), Broken::Unasked));
        drop(peer);
        assert!(matches!(link.judge(), Broken::Closed));
    }
}
