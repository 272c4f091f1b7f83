// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Block devices. Needs root and `losetup`; says so otherwise.

use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use super::*;

/// A block device whose content is in a file.
struct Loop {
    image: Image,
    path: PathBuf,
}

impl Loop {
    fn new(arguments: &[&str]) -> Option<Self> {
        let image = Image::new();
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .args(arguments)
            .arg(&image.path)
            .stderr(Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => Some(Self {
                image,
                path: String::from_utf8(output.stdout).unwrap().trim().into(),
            }),
            _ => {
                println!("skipped: 'losetup' makes no loop device here (it needs root)");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let status = Command::new("losetup").arg("-d").arg(&self.path).status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_block_device_is_a_disk() {
    let Some(device) = Loop::new(&[]) else { return };
    let memory = memory();
    let disk = Disk::open(&device.path, false).unwrap();
    assert_eq!(disk.size(), SIZE);
    let mut driver = Driver::new(&memory, disk, 0);
    assert_eq!(driver.read(16, 4096).1, pattern(16 * 512, 4096));
    assert_eq!(driver.write(16, &[7; 512]), done(0, 1));
    assert_eq!(driver.send(&header(4, 0)), done(0, 1));
    assert_eq!(device.image.bytes(16 * 512, 512), [7; 512]);
    let discard = [header(11, 0), range(1024, 2048, 0)].concat();
    assert_eq!(driver.send(&discard), done(0, 1));
    let hole = device.image.bytes(1024 * 512, 1 << 20);
    assert!(
        hole.iter().all(|byte| *byte == 0),
        "the loop device punches"
    );
    for (sector, flags) in [(32, 0), (48, 1)] {
        let zeroes = [header(13, 0), range(sector, 8, flags)].concat();
        assert_eq!(driver.send(&zeroes), done(0, 1));
        assert_eq!(driver.read(sector, 4096).1, [0; 4096]);
    }
    assert_eq!(driver.read(56, 512).1, pattern(56 * 512, 512));
}

#[test]
fn large_blocks_are_announced_and_parts_of_them_can_be_changed() {
    let Some(device) = Loop::new(&["--sector-size", "4096"]) else {
        return;
    };
    let memory = memory();
    let disk = Disk::open(&device.path, false).unwrap();
    let mut driver = Driver::new(&memory, disk, 0);
    assert_eq!(driver.guest.read(0x100 + 20), 4096, "block size");
    assert_eq!(driver.guest.read(0x100 + 44), 8, "discard alignment");
    assert_eq!(driver.write(3, &[7; 512]), done(0, 1));
    for flags in [0, 1] {
        let zeroes = [header(13, 0), range(9, 2, flags)].concat();
        assert_eq!(driver.send(&zeroes), done(0, 1));
    }
    let discard = [header(11, 0), range(17, 16, 0)].concat();
    assert_eq!(
        driver.send(&discard),
        done(0, 1),
        "nothing but whole blocks"
    );
    let read = driver.read(0, 64 * 512).1;
    let mut expected = pattern(0, 64 * 512);
    expected[3 * 512..4 * 512].fill(7);
    expected[9 * 512..11 * 512].fill(0);
    expected[24 * 512..32 * 512].fill(0);
    assert!(read == expected);
}

#[test]
fn a_device_in_use_is_refused() {
    let Some(device) = Loop::new(&[]) else { return };
    // As a mount does.
    let claim = File::options()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(&device.path)
        .unwrap();
    for read_only in [false, true] {
        let error = Disk::open(&device.path, read_only).unwrap_err().to_string();
        assert!(error.contains("in use on this host"), "{error}");
    }
    drop(claim);
    let reader = Disk::open(&device.path, true).unwrap();
    let other = Disk::open(&device.path, true).unwrap();
    let error = Disk::open(&device.path, false).unwrap_err().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    drop((reader, other));
    let writer = Disk::open(&device.path, false).unwrap();
    for read_only in [false, true] {
        let error = Disk::open(&device.path, read_only).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
    }
    drop(writer);
}
