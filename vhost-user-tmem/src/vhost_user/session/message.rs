// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages of the vhost-user protocol, as bytes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::{Errno, retry_on_intr};
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
pub(super) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(super) const SET_VRING_ENABLE: u32 = 18;
pub(super) const ADD_MEM_REG: u32 = 37;
pub(super) const REM_MEM_REG: u32 = 38;

/// The version, in a message's flags.
const VERSION: u32 = 1;

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

impl Message {
    pub(super) fn new(request: u32, body: Vec<u8>) -> Self {
        Self {
            request,
            flags: VERSION,
            body,
            fds: Vec::new(),
        }
    }

    /// Sends the message as a whole; fails if it is not taken at once.
    pub(super) fn send(&self, to: &UnixStream, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = self.bytes();
        if send(to, &bytes, fds)? == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
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

/// Sends as much as is taken at once, with descriptors.
pub(super) fn send(to: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(retry_on_intr(|| {
        sendmsg(to, &[IoSlice::new(bytes)], &mut control, flags)
    })?)
}

/// What has come of a message so far.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// What came.
#[derive(Debug)]
pub(super) enum Came {
    /// A message.
    Whole(Message),
    /// Not all of one yet.
    Part,
    /// The sender has left, perhaps within a message.
    End,
    /// No message is so long.
    Nonsense,
}

impl Incoming {
    /// Whether nothing has come of the next message yet.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes what is there of a message, and nothing of the next one. Never waits.
    pub(super) fn receive(&mut self, from: &UnixStream) -> Came {
        loop {
            let Some(missing) = self.missing() else {
                return Came::Nonsense;
            };
            if missing == 0 {
                return self.take().map_or(Came::End, Came::Whole);
            }
            let before = self.bytes.len();
            self.bytes.resize(before.saturating_add(missing), 0);
            let received = self.read(from, before);
            let now = before.saturating_add(*received.as_ref().unwrap_or(&0));
            self.bytes.truncate(now);
            match received {
                Ok(0) => return Came::End,
                Ok(_) => {}
                Err(Errno::AGAIN) => return Came::Part,
                Err(_) => return Came::End,
            }
        }
    }

    /// How many bytes are to come of what is to be read next; `None`: no message is so long.
    fn missing(&self) -> Option<usize> {
        let have = self.bytes.len();
        let Some(header) = self.bytes.first_chunk::<HEADER>() else {
            return HEADER.checked_sub(have);
        };
        let [.., l0, l1, l2, l3] = *header;
        let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
        if len > MOST {
            return None;
        }
        HEADER.checked_add(len)?.checked_sub(have)
    }

    /// Reads into the bytes from `at` on.
    fn read(&mut self, from: &UnixStream, at: usize) -> Result<usize, Errno> {
        let rest = self.bytes.get_mut(at..).unwrap_or_default();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received =
            retry_on_intr(|| recvmsg(from, &mut [IoSliceMut::new(rest)], &mut control, flags))?;
        for message in control.drain() {
            // They come with the header, whose first byte is what they were sent with.
            if let RecvAncillaryMessage::ScmRights(fds) = message
                && at < HEADER
            {
                let room = MOST_FDS.saturating_sub(self.fds.len());
                self.fds.extend(fds.take(room));
            }
        }
        Ok(received.bytes)
    }

    fn take(&mut self) -> Option<Message> {
        let bytes = std::mem::take(&mut self.bytes);
        let fds = std::mem::take(&mut self.fds);
        let (header, body) = bytes.split_first_chunk::<HEADER>()?;
        let [r0, r1, r2, r3, f0, f1, f2, f3, ..] = *header;
        Some(Message {
            request: u32::from_le_bytes([r0, r1, r2, r3]),
            flags: u32::from_le_bytes([f0, f1, f2, f3]),
            body: body.to_vec(),
            fds,
        })
    }
}
