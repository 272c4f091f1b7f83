// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Giving a file's storage back, and zeroing it without writing zeros.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// What a disk is on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Device,
}

/// `linux/fs.h`: BLKDISCARD, takes the first byte and the length.
const BLKDISCARD: Opcode = opcode::none(0x12, 119);

/// Gives a range of whole blocks back. `Ok(false)` if the host cannot.
pub(super) fn discard(file: &File, kind: Kind, offset: u64, len: u64) -> io::Result<bool> {
    let done = match kind {
        Kind::File => punch(file, offset, len),
        Kind::Device => retry_on_intr(|| {
            // SAFETY: BLKDISCARD reads two 64-bit numbers and keeps no pointer.
            let request = unsafe { Setter::<BLKDISCARD, [u64; 2]>::new([offset, len]) };
            // SAFETY: the request is as the kernel wants it. It changes what
            // the device holds, of which nothing is mapped.
            unsafe { ioctl(file.as_fd(), request) }
        }),
    };
    match done {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes a range read as zeros, without its storage if `unmap`. `Ok(false)` if
/// zeros must be written for that.
pub(super) fn zero(file: &File, offset: u64, len: u64, unmap: bool) -> io::Result<bool> {
    if unmap && punch(file, offset, len).is_ok() {
        return Ok(true);
    }
    let mode = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    match retry_on_intr(|| fallocate(file, mode, offset, len)) {
        Ok(()) => Ok(true),
        // A device does not take what is no whole block.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn punch(file: &File, offset: u64, len: u64) -> Result<(), Errno> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    retry_on_intr(|| fallocate(file, mode, offset, len))
}
