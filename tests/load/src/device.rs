// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is done to block devices beyond reading and writing.

use anyhow::Context;
use anyhow::Result;
use rustix::fs::OFlags;
use rustix::ioctl;
use rustix::ioctl::NoArg;
use rustix::ioctl::Opcode;
use rustix::ioctl::Setter;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Seek;
use std::io::SeekFrom;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// linux/fs.h
const BLKFLSBUF: Opcode = 0x1261;
const BLKDISCARD: Opcode = 0x1277;

/// Opens `path` to read and write it, past the page cache if `direct`.
///
/// # Errors
/// It cannot be opened, or not so.
pub fn open(path: &Path, direct: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if direct {
        options.custom_flags(direct_flag());
    }
    options.open(path)
}

/// Opens `path` to read it, past the page cache if that can be.
///
/// # Errors
/// It cannot be opened.
pub fn open_to_read(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    let plain = options.clone();
    options
        .custom_flags(direct_flag())
        .open(path)
        .or_else(|_| plain.open(path))
        .with_context(|| format!("cannot open {}", path.display()))
}

fn direct_flag() -> i32 {
    OFlags::DIRECT.bits().cast_signed()
}

/// Bytes of a device or of a file.
///
/// # Errors
/// It cannot be asked.
pub fn size(mut file: &File) -> Result<u64> {
    file.seek(SeekFrom::End(0)).context("it has no size")
}

/// Bytes of a block of the device `file`, which requests past the page cache are made of;
/// 512 of what is no block device.
pub fn block(file: &File) -> u64 {
    rustix::fs::ioctl_blksszget(file).map_or(512, u64::from)
}

/// Writes what the page cache has of the device `file`, and forgets it.
///
/// # Errors
/// It is no block device, or cannot be written.
pub fn flush_buffers(file: &File) -> std::io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument and touches no memory of ours.
    let flush = unsafe { NoArg::<BLKFLSBUF>::new() };
    // SAFETY: As above; on a file that is no block device it is an error.
    unsafe { ioctl::ioctl(file, flush) }.map_err(Into::into)
}

/// Tells the device `file` that `range` is not needed any more.
///
/// # Errors
/// It is no block device, or cannot do that.
pub fn discard(file: &File, range: &Range<u64>) -> std::io::Result<()> {
    let argument = [range.start, range.end - range.start];
    // SAFETY: BLKDISCARD reads two u64 and keeps no pointer to them.
    let discard = unsafe { Setter::<BLKDISCARD, [u64; 2]>::new(argument) };
    // SAFETY: As above; on a file that is no block device it is an error.
    unsafe { ioctl::ioctl(file, discard) }.map_err(Into::into)
}
