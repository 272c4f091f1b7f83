// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages of the vhost-user protocol, as bytes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

pub(super) const GET_FEATURES: u32 = 1;
pub(super) const SET_FEATURES: u32 = 2;
pub(super) const SET_OWNER: u32 = 3;
pub(super) const RESET_OWNER: u32 = 4;
pub(super) const SET_MEM_TABLE: u32 = 5;
pub(super) const SET_VRING_NUM: u32 = 8;
pub(super) const SET_VRING_ADDR: u32 = 9;
pub(super) const SET_VRING_BASE: u32 = 10;
pub(super) const GET_VRING_BASE: u32 = 11;
pub(super) const SET_VRING_KICK: u32 = 12;
pub(super) const SET_VRING_CALL: u32 = 13;
pub(super) const SET_VRING_ERR: u32 = 14;
pub(super) const GET_PROTOCOL_FEATURES: u32 = 15;
pub(super) const SET_PROTOCOL_FEATURES: u32 = 16;
const GET_QUEUE_NUM: u32 = 17;
pub(super) const SET_VRING_ENABLE: u32 = 18;
const GET_CONFIG: u32 = 24;
const GET_MAX_MEM_SLOTS: u32 = 36;
pub(super) const ADD_MEM_REG: u32 = 37;
pub(super) const REM_MEM_REG: u32 = 38;
const SET_DEVICE_STATE_FD: u32 = 42;
const CHECK_DEVICE_STATE: u32 = 43;

/// The version, in a message's flags.
const VERSION: u32 = 1;
const NEED_REPLY: u32 = 1 << 3;

const HEADER: usize = 12;
/// Longest message that the vhost crate takes.
const MOST: usize = 4096;
/// Most file descriptors with a message.
const MOST_FDS: usize = 32;

/// A message, in either direction.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) request: u32,
    flags: u32,
    pub(super) body: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

/// What came instead of a message.
#[derive(Debug)]
pub(super) enum Ended {
    /// Nothing of one came: the sender is gone, or `until` was readable.
    Before,
    /// A part of one came, or nonsense.
    Within,
}

impl Message {
    pub(super) fn new(request: u32, body: Vec<u8>) -> Self {
        Self {
            request,
            flags: VERSION,
            body,
            fds: Vec::new(),
        }
    }

    /// Receives a message, unless one of `until` is readable before it is complete.
    pub(super) fn receive(from: &UnixStream, until: &[BorrowedFd<'_>]) -> Result<Self, Ended> {
        let mut header = [0; HEADER];
        let mut message = Self::default();
        let read = receive(from, until, &mut header, &mut message.fds);
        if read == 0 {
            return Err(Ended::Before);
        }
        let [r0, r1, r2, r3, f0, f1, f2, f3, l0, l1, l2, l3] = header;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if read < HEADER || len > MOST {
            return Err(Ended::Within);
        }
        message.request = u32::from_le_bytes([r0, r1, r2, r3]);
        message.flags = u32::from_le_bytes([f0, f1, f2, f3]);
        message.body.resize(len, 0);
        // Descriptors come with a message's first byte.
        let mut none = Vec::new();
        if receive(from, until, &mut message.body, &mut none) < len {
            return Err(Ended::Within);
        }
        Ok(message)
    }

    /// Sends the message, unless one of `until` is readable before it is taken as a whole.
    pub(super) fn send(
        &self,
        to: &UnixStream,
        fds: &[BorrowedFd<'_>],
        until: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let bytes = self.bytes();
        let mut fds = fds;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(to, &[IoSlice::new(rest)], &mut control, flags) {
                Ok(sent) => {
                    rest = rest.get(sent..).unwrap_or_default();
                    fds = &[];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !wait(to, PollFlags::OUT, until) {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let len = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER.saturating_add(self.body.len()));
        for word in [self.request, self.flags, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(&self.body);
        bytes
    }

    /// Its descriptors, lent.
    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }

    /// Whether the vhost crate answers it; `acks`: if asked to, any message.
    pub(super) fn is_answered(&self, acks: bool) -> bool {
        let always = [
            GET_FEATURES,
            GET_VRING_BASE,
            GET_PROTOCOL_FEATURES,
            GET_QUEUE_NUM,
            GET_CONFIG,
            GET_MAX_MEM_SLOTS,
            SET_DEVICE_STATE_FD,
            CHECK_DEVICE_STATE,
        ];
        always.contains(&self.request) || acks && self.flags & NEED_REPLY != 0
    }

    /// The word of 64 bits with this number.
    pub(super) fn word(&self, nth: usize) -> Option<u64> {
        let at = nth.checked_mul(8)?;
        let bytes = self.body.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Two words of 32 bits.
    pub(super) fn pair(&self) -> Option<(u32, u32)> {
        let word = self.word(0)?;
        let low = u32::try_from(word & u64::from(u32::MAX)).ok()?;
        Some((low, u32::try_from(word >> 32).ok()?))
    }
}

/// Fills `bytes`, unless one of `until` is readable before that; how many it has.
fn receive(
    from: &UnixStream,
    until: &[BorrowedFd<'_>],
    bytes: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> usize {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        match recvmsg(from, &mut [IoSliceMut::new(rest)], &mut control, flags) {
            Ok(received) => {
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(received) = message {
                        fds.extend(received);
                    }
                }
                if received.bytes == 0 {
                    break;
                }
                done = done.saturating_add(received.bytes);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !wait(from, PollFlags::IN, until) {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    done
}

/// Waits until `stream` is ready; `false` if one of `until` is before.
pub(super) fn wait(stream: &UnixStream, flags: PollFlags, until: &[BorrowedFd<'_>]) -> bool {
    loop {
        let mut fds: Vec<_> = until
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        fds.push(PollFd::new(stream, flags));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return false,
        }
        let ready = fds.pop().is_some_and(|fd| !fd.revents().is_empty());
        return ready && fds.iter().all(|fd| fd.revents().is_empty());
    }
}
