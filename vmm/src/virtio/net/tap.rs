// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's end: a tap interface. Packets go with a header of
//! [`LEN`](super::header::LEN) bytes before them.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSliceMut, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use thiserror::Error;
use vm_memory::VolatileSlice;

use super::header;
use crate::virtio::vectored;

/// The device that taps are reached through.
const TUN: &str = "/dev/net/tun";

/// `linux/if_tun.h`. The sizes in the numbers are not those of what is passed.
const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
const TUNSETOFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<c_int>(b'T', 216);

/// `struct ifreq` with flags. 40 bytes on 64-bit machines.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// Why a tap cannot be used.
#[derive(Debug, Error)]
pub enum TapError {
    /// The kernel has no taps.
    #[error("there is no {TUN}; load the kernel module with 'modprobe tun'")]
    NoDriver,
    /// The process may not use taps at all.
    #[error("no permission to open {TUN}; change its mode, or run as a user who may")]
    NoPermission,
    /// There is no interface of this name.
    #[error(
        "there is no network interface '{0}'; make it with 'ip tuntap add dev {0} mode tap user \
         USER'"
    )]
    Missing(String),
    /// The interface is something else.
    #[error(
        "the network interface '{0}' is no tap, or one with several queues; make one with 'ip \
         tuntap add dev NAME mode tap user USER'"
    )]
    NoTap(String),
    /// Another process has it.
    #[error("the tap '{0}' is in use by another process; give each virtual machine its own")]
    Busy(String),
    /// It belongs to another user.
    #[error(
        "no permission to use the tap '{0}'; make it with 'ip tuntap add dev {0} mode tap user \
         USER', as the user who runs this"
    )]
    NotYours(String),
    /// Anything else.
    #[error("the tap '{name}' cannot be used")]
    Other {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// An attached tap.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
}

impl Tap {
    /// Attaches to the existing tap `name`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to do.
    pub fn open(name: &str) -> Result<Self, TapError> {
        let told = |source: io::Error| TapError::Other {
            name: name.into(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(TUN)
            .map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied => TapError::NoPermission,
                ErrorKind::NotFound => TapError::NoDriver,
                _ if error.raw_os_error() == Some(libc::ENODEV) => TapError::NoDriver,
                _ => told(error),
            })?;
        check_exists(name).map_err(|error| match error {
            Errno::NODEV => TapError::Missing(name.into()),
            error => told(error.into()),
        })?;
        let tap = Self {
            file,
            name: name.into(),
        };
        tap.attach().map_err(|error| match error {
            Errno::BUSY => TapError::Busy(name.into()),
            Errno::PERM | Errno::ACCESS => TapError::NotYours(name.into()),
            Errno::INVAL => TapError::NoTap(name.into()),
            error => told(error.into()),
        })?;
        tap.set_header_size().map_err(|error| told(error.into()))?;
        tap.set_offload(0).map_err(told)?;
        tap.warn_if_down();
        Ok(tap)
    }

    /// Something that behaves like a tap: a socket of packets.
    #[cfg(test)]
    pub(super) fn like(file: File) -> Self {
        Self {
            file,
            name: "test".into(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Readable when there are packets.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Takes the next packet apart; the length of its frame. `WouldBlock` if
    /// there is none.
    pub(super) fn read(
        &self,
        header: &mut [u8; header::LEN],
        frame: &mut [u8],
    ) -> io::Result<usize> {
        let mut parts = [IoSliceMut::new(header), IoSliceMut::new(frame)];
        loop {
            match (&self.file).read_vectored(&mut parts) {
                // Nothing comes without a header.
                Ok(len) => return len.checked_sub(header::LEN).ok_or_else(gone),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Throws away up to `most` packets that are there.
    pub(super) fn drain(&self, most: usize) {
        let mut header = [0; header::LEN];
        let _ = (0..most).try_for_each(|_| self.read(&mut header, &mut []).map(|_| ()));
    }

    /// Sends a packet.
    pub(super) fn write(
        &self,
        header: &[u8; header::LEN],
        frame: &[VolatileSlice<'_>],
    ) -> io::Result<()> {
        vectored::write_packet(self.file.as_fd(), header, frame)
    }

    /// Tells the kernel which work on packets may be left to the guest: bits
    /// `TUN_F_…`.
    pub(super) fn set_offload(&self, flags: u32) -> io::Result<()> {
        let flags = usize::try_from(flags).unwrap_or_default();
        // SAFETY: TUNSETOFFLOAD takes an integer and checks it.
        let request = unsafe { IntegerSetter::<TUNSETOFFLOAD>::new_usize(flags) };
        // SAFETY: it changes nothing but the tap.
        unsafe { ioctl(&self.file, request) }.map_err(Into::into)
    }

    fn attach(&self) -> Result<(), Errno> {
        let mut request = Request {
            name: [0; libc::IFNAMSIZ],
            flags: u16::try_from(libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR)
                .map_err(|_| Errno::INVAL)?,
            rest: [0; 22],
        };
        // The last byte stays 0.
        let room = request.name.len() - 1;
        for (to, from) in request.name.iter_mut().take(room).zip(self.name.bytes()) {
            *to = from;
        }
        // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which `Request`
        // is, in layout and size.
        let request = unsafe { Updater::<TUNSETIFF, Request>::new(&mut request) };
        // SAFETY: no pointer is kept.
        unsafe { ioctl(&self.file, request) }
    }

    fn set_header_size(&self) -> Result<(), Errno> {
        let size = c_int::try_from(header::LEN).map_err(|_| Errno::INVAL)?;
        // SAFETY: TUNSETVNETHDRSZ reads an int.
        let request = unsafe { Setter::<TUNSETVNETHDRSZ, c_int>::new(size) };
        // SAFETY: no pointer is kept.
        unsafe { ioctl(&self.file, request) }
    }

    /// An interface that is down works, but for no packet.
    fn warn_if_down(&self) {
        let name = &self.name;
        let flags = std::fs::read_to_string(format!("/sys/class/net/{name}/flags"));
        let flags = flags
            .ok()
            .and_then(|text| u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok());
        if flags.is_some_and(|flags| flags & libc::IFF_UP as u32 == 0) {
            log::warn!("the tap '{name}' is down; 'ip link set {name} up' lets packets through");
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "it gave a packet without header")
}

/// Attaching would make a tap that does not exist, if the process may.
fn check_exists(name: &str) -> Result<(), Errno> {
    let any = socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    name_to_index(any, name).map(|_| ())
}
