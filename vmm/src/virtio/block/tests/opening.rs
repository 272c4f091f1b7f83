// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disks that cannot be used, and what is said of them.

use std::error::Error;
use std::path::Path;

use super::*;
use crate::virtio::block::OpenError;

fn told(path: &Path, read_only: bool) -> String {
    let error = Disk::open(path, read_only).unwrap_err();
    assert!(error.source().is_none(), "one sentence says it all");
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    text
}

#[test]
fn what_is_no_disk_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    assert!(told(&path("nothing"), false).contains("there is no disk"));
    assert!(told(dir.path(), false).contains("is a directory"));
    assert!(told(Path::new("/dev/null"), false).contains("neither a file nor a block device"));
    std::fs::write(path("empty"), "").unwrap();
    assert!(told(&path("empty"), false).contains("truncate -s 8G"));
    std::fs::write(path("odd"), [0; 513]).unwrap();
    assert!(told(&path("odd"), true).contains("513 bytes"));
    std::fs::write(path("short"), [0; 2]).unwrap();
    assert!(told(&path("short"), true).contains("2 bytes"));
}

/// A file of zeros with `magic` at `at`.
fn image(at: usize, magic: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 4096];
    image[at..at + magic.len()].copy_from_slice(magic);
    image
}

#[test]
fn images_that_are_not_raw_are_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    for (at, magic, what, command) in [
        (0, &b"QFI\xfb"[..], "a qcow2 image", "qemu-img convert"),
        (0, b"QED\0", "a QED image", "qemu-img convert"),
        (0, b"KDMV\x01", "a VMDK image", "qemu-img convert"),
        (0, b"COWD\x01", "a VMDK image", "qemu-img convert"),
        (0, b"vhdxfile", "a VHDX image", "qemu-img convert"),
        (64, b"\x7f\x10\xda\xbe", "a VDI image", "qemu-img convert"),
        (0, b"conectix", "a VHD image", "qemu-img convert"),
        (4096 - 512, b"conectix", "a VHD image", "qemu-img convert"),
        (4096 - 512, b"koly", "a DMG image", "qemu-img convert"),
        (0, b"WithoutFreeSpace", "Parallels", "qemu-img convert"),
        (257, b"ustar\0", "a tar archive", "tar -xf"),
        (0, b"\x1f\x8b\x08", "packed with gzip", "gzip -dk"),
        (0, b"\xfd7zXZ\0", "packed with xz", "xz -dk"),
        (0, b"\x28\xb5\x2f\xfd", "packed with zstd", "zstd -d"),
        (0, b"BZh91AY&SY", "packed with bzip2", "bzip2 -dk"),
        (0, b"PK\x03\x04", "packed with ZIP", "unzip"),
    ] {
        std::fs::write(&path, image(at, magic)).unwrap();
        for read_only in [false, true] {
            let text = told(&path, read_only);
            assert!(text.contains(what) && text.contains(command), "{text}");
            assert!(text.contains("format=raw"), "{text}");
        }
        // Whoever knows better is believed.
        assert_eq!(Disk::open_raw(&path, false).unwrap().size(), 4096);
    }
    // Also where the size would be odd.
    std::fs::write(&path, "# Disk DescriptorFile\nversion=1\n").unwrap();
    assert!(told(&path, false).contains("VMDK"));
    std::fs::write(&path, b"\x1f\x8b\x08").unwrap();
    assert!(told(&path, false).contains("gzip"));
}

#[test]
fn raw_images_are_not_taken_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    for (at, magic) in [
        (510, &b"\x55\xaa"[..]),
        (512, b"EFI PART"),
        (0, b"LUKS\xba\xbe"),
        (0, b"XFSB"),
        (1080, b"\x53\xef"),
        // Almost.
        (1, b"QFI\xfb"),
        (0, b"QFI"),
        (4096 - 511, b"conectix"),
        (0, b"BZh9"),
    ] {
        std::fs::write(&path, image(at, magic)).unwrap();
        assert!(Disk::open(&path, false).is_ok(), "{magic:?}");
    }
}

#[test]
fn a_pipe_does_not_keep_the_program_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
    assert!(told(&path, true).contains("neither a file nor a block device"));
}

#[test]
fn missing_permission_to_write_is_told_from_permission_to_read() {
    let image = Image::new();
    let denied = || std::io::ErrorKind::PermissionDenied.into();
    let error = OpenError::new(&image.path, denied());
    assert!(error.to_string().contains("add readonly=on"), "{error}");
    let error = OpenError::new(Path::new("/nowhere"), denied());
    assert!(
        error.to_string().contains("no permission to read"),
        "{error}"
    );
}

#[test]
fn a_disk_has_one_writer_or_many_readers() {
    let image = Image::new();
    let writer = image.disk();
    assert!(told(&image.path, false).contains("in use by another process"));
    assert!(told(&image.path, true).contains("in use by another process"));
    drop(writer);
    let reader = Disk::open(&image.path, true).unwrap();
    let other = Disk::open(&image.path, true).unwrap();
    assert!(told(&image.path, false).contains("in use by another process"));
    drop((reader, other));
    drop(image.disk());
}

#[test]
fn a_disk_stays_locked_while_its_device_exists() {
    let image = Image::new();
    let block = Block::new("vda", image.disk()).virtio().unwrap();
    assert!(told(&image.path, false).contains("in use"));
    drop(block);
    drop(image.disk());
}

#[test]
fn size_and_partition_table_are_seen() {
    let image = Image::new();
    let disk = image.disk();
    assert_eq!(disk.size(), SIZE);
    assert!(!disk.is_read_only());
    assert!(!disk.is_partitioned());
    image.file.write_all_at(b"EFI PART", 512).unwrap();
    assert!(disk.is_partitioned());
}
