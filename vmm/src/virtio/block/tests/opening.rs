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
    let mut image = vec![0; 1024];
    image[..4].copy_from_slice(b"QFI\xfb");
    std::fs::write(path("qcow2"), image).unwrap();
    assert!(told(&path("qcow2"), false).contains("qemu-img convert"));
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
    let block = Block::new("vda", image.disk()).unwrap();
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
