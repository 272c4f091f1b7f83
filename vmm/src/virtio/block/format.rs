// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Images that are recognisably not raw: the guest would find their headers
//! instead of its disk, and write over them.
//!
//! The magic numbers are those that QEMU probes for (block/*.c), and those of
//! archives and packed files.

use std::io;
use std::os::unix::fs::FileExt;

use crate::compression;
use crate::peek::peek;

/// Bytes at the begin of a file that are looked at.
const HEAD: usize = 512;

/// Bytes at its end: a fixed VHD and a DMG have no header, but a footer.
const TAIL: usize = 512;

/// What an image is, and how to make a raw one of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRaw {
    /// What people call it, with an article.
    pub(super) what: String,
    /// The command, less the names of files.
    pub(super) command: &'static str,
}

/// A magic number at some byte of the head.
struct Magic(usize, &'static [u8], &'static str);

/// The formats that have a header, by names that qemu-img knows them by.
const HEADERS: [Magic; 15] = [
    // All versions of it.
    Magic(0, b"QFI\xfb", "a qcow2 image"),
    Magic(0, b"QED\0", "a QED image"),
    Magic(0, b"KDMV", "a VMDK image"),
    Magic(0, b"COWD", "a VMDK image"),
    // Other files have the data.
    Magic(
        0,
        b"# Disk DescriptorFile",
        "the description of a VMDK image",
    ),
    Magic(0, b"vhdxfile", "a VHDX image"),
    Magic(64, b"\x7f\x10\xda\xbe", "a VDI image"),
    // A copy of the footer, if the image grows.
    Magic(0, b"conectix", "a VHD image"),
    Magic(0, b"WithoutFreeSpace", "a Parallels image"),
    Magic(0, b"WithouFreSpacExt", "a Parallels image"),
    Magic(0, b"Bochs Virtual HD Image", "a Bochs image"),
    Magic(
        0,
        b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop",
        "a cloop image",
    ),
    Magic(0, b"\x3a\xff\x26\xed", "an Android sparse image"),
    Magic(0, b"VMA\0", "a backup of Proxmox"),
    Magic(257, b"ustar", "a tar archive"),
];

/// Those with a footer.
const FOOTERS: [Magic; 2] = [
    Magic(0, b"conectix", "a VHD image"),
    Magic(0, b"koly", "a DMG image"),
];

/// What `file`, of `size` bytes, is if it is recognisably no raw image.
///
/// # Errors
/// What the system says.
pub(super) fn examine(file: &impl FileExt, size: u64) -> io::Result<Option<NotRaw>> {
    let mut head = [0; HEAD];
    let head = peek(file, &mut head, 0)?;
    let mut tail = [0; TAIL];
    let tail = peek(file, &mut tail, size.saturating_sub(TAIL as u64))?;
    let find = |known: &[Magic], bytes: &[u8]| {
        let found = known.iter().find(|Magic(at, magic, _)| {
            bytes
                .get(*at..)
                .is_some_and(|bytes| bytes.starts_with(magic))
        });
        found.map(|Magic(_, _, what)| NotRaw {
            what: (*what).into(),
            command: command(what),
        })
    };
    let packed = || {
        compression::of(head).map(|packed| NotRaw {
            what: format!("a file packed with {}", packed.name),
            command: packed.unpack,
        })
    };
    Ok(find(&HEADERS, head)
        .or_else(|| find(&FOOTERS, tail))
        .or_else(packed))
}

fn command(what: &str) -> &'static str {
    match what {
        "a tar archive" => "tar -xf",
        "an Android sparse image" => "simg2img",
        "a backup of Proxmox" => "vma extract",
        _ => "qemu-img convert -O raw",
    }
}
