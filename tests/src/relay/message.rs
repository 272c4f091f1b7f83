// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages of the vhost-user protocol, as its specification has them.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::recvmsg;
use rustix::net::sendmsg;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::io::Read;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

pub(super) const GET_FEATURES: u32 = 1;
pub(super) const SET_FEATURES: u32 = 2;
pub(super) const SET_OWNER: u32 = 3;
pub(super) const SET_MEM_TABLE: u32 = 5;
pub(super) const SET_VRING_NUM: u32 = 8;
pub(super) const SET_VRING_ADDR: u32 = 9;
pub(super) const SET_VRING_BASE: u32 = 10;
pub(super) const GET_VRING_BASE: u32 = 11;
pub(super) const SET_VRING_KICK: u32 = 12;
pub(super) const SET_VRING_CALL: u32 = 13;
pub(super) const GET_PROTOCOL_FEATURES: u32 = 15;
pub(super) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(super) const GET_QUEUE_NUM: u32 = 17;
pub(super) const SET_VRING_ENABLE: u32 = 18;
pub(super) const GET_CONFIG: u32 = 24;

/// Version 1, in every message's flags.
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// Most files with a message, and most bytes of one.
const FILES: usize = 8;
const BYTES: usize = 4096;

/// A request or a reply.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) code: u32,
    flags: u32,
    pub(super) body: Vec<u8>,
    pub(super) files: Vec<OwnedFd>,
}

impl Message {
    /// A request that needs no acknowledgement.
    pub(super) fn request(code: u32, body: Vec<u8>) -> Self {
        Self {
            code,
            flags: VERSION,
            body,
            files: Vec::new(),
        }
    }

    /// What answers this one.
    pub(super) fn reply(&self, body: Vec<u8>) -> Self {
        Self {
            code: self.code,
            flags: VERSION | REPLY,
            body,
            files: Vec::new(),
        }
    }

    /// Whether its sender waits for an acknowledgement.
    pub(super) fn needs_acknowledgement(&self) -> bool {
        self.flags & NEED_REPLY != 0
    }

    /// Whether its sender waits for an answer, which an acknowledgement is too.
    pub(super) fn needs_answer(&self) -> bool {
        let asks = [
            GET_FEATURES,
            GET_VRING_BASE,
            GET_PROTOCOL_FEATURES,
            GET_QUEUE_NUM,
            GET_CONFIG,
        ];
        self.needs_acknowledgement() || asks.contains(&self.code)
    }

    /// The 32 bits at `at` of the body.
    pub(super) fn u32(&self, at: usize) -> u32 {
        let bytes = self.body.get(at..at + 4);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        u32::from_le_bytes(bytes.unwrap_or_default())
    }

    /// The 64 bits at `at` of the body.
    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    /// Sends it with its files.
    pub(super) fn send(&self, mut to: &UnixStream) -> Result<()> {
        let size = u32::try_from(self.body.len()).context("a long message")?;
        let mut bytes = Vec::with_capacity(12 + self.body.len());
        for field in [self.code, self.flags, size] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(&self.body);
        let files: Vec<_> = self.files.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&files)) {
            bail!("{} files are too many", files.len());
        }
        let sent = sendmsg(
            to,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        to.write_all(bytes.get(sent..).unwrap_or_default())?;
        Ok(())
    }

    /// Receives one; none when the stream's time for reading is up before it begins.
    pub(super) fn receive(mut from: &UnixStream) -> Result<Option<Self>> {
        let mut header = [0; 12];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            from,
            &mut [IoSliceMut::new(&mut header)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        let count = match received {
            Ok(message) => message.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            bail!("the peer has closed the connection");
        }
        let mut files = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                files.extend(more);
            }
        }
        from.read_exact(header.get_mut(count..).unwrap_or_default())?;
        let mut message = Self {
            code: 0,
            flags: 0,
            body: header.to_vec(),
            files,
        };
        let [code, flags, size] = [0, 4, 8].map(|at| message.u32(at));
        let size = usize::try_from(size)?;
        if size > BYTES {
            bail!("a message of {size} bytes");
        }
        message.body = vec![0; size];
        from.read_exact(&mut message.body)?;
        (message.code, message.flags) = (code, flags);
        Ok(Some(message))
    }
}
