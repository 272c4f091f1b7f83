// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the kernel says of block devices, and of what is mounted from them.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor, stat, statvfs};

use crate::disk::{self, Number};

/// What dm-crypt's devices are called in their UUIDs, by cryptsetup and by
/// systemd.
const ENCRYPTED: &str = "CRYPT-";

/// Devices above each other; more than this are not looked through.
const DEPTH: u32 = 16;

/// What there is to know of disks.
pub(crate) trait Disks {
    /// The name of a device.
    fn name(&self, device: Number) -> String;

    /// The device at `path`.
    fn number(&self, path: &str) -> Option<Number>;

    /// Whether a device, or one that it is made of, is dm-crypt's: then what is
    /// read from it is not what is on the disk.
    fn is_encrypted(&self, device: Number) -> bool;

    /// Bytes in a block of the file system that is mounted at `point` from
    /// `device`.
    fn block_size(&self, device: Number, point: &str) -> Option<u64>;
}

/// As the kernel has it in this directory, which is /sys.
pub(crate) struct Kernel<'a>(pub(crate) &'a Path);

impl Disks for Kernel<'_> {
    fn name(&self, device: Number) -> String {
        disk::name(self.0, device)
    }

    fn number(&self, path: &str) -> Option<Number> {
        disk::at(path).ok()
    }

    fn is_encrypted(&self, device: Number) -> bool {
        let dir = self.0.join("dev/block").join(device.to_string());
        dir.canonicalize().is_ok_and(|dir| is_encrypted(&dir, 0))
    }

    fn block_size(&self, device: Number, point: &str) -> Option<u64> {
        let found = stat(point).ok()?;
        // Something else may be mounted there since.
        let is_there = (major(found.st_dev), minor(found.st_dev)) == (device.major, device.minor);
        is_there.then(|| statvfs(point).ok().map(|fs| fs.f_bsize))?
    }
}

/// Looks at the directory of a disk or of a partition, and at those below it.
fn is_encrypted(dir: &Path, depth: u32) -> bool {
    if depth > DEPTH {
        return false;
    }
    let uuid = fs::read_to_string(dir.join("dm/uuid")).unwrap_or_default();
    if uuid.starts_with(ENCRYPTED) {
        return true;
    }
    // A partition is a part of the disk whose directory it is in.
    let disk = dir.join("partition").exists().then(|| dir.parent());
    let slaves = fs::read_dir(dir.join("slaves")).into_iter().flatten();
    let below = slaves
        .flatten()
        .filter_map(|entry| entry.path().canonicalize().ok());
    disk.flatten()
        .map(PathBuf::from)
        .into_iter()
        .chain(below)
        .any(|dir| is_encrypted(&dir, depth + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A directory as /sys is.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Self {
            let sys = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(sys.0.path().join("dev/block")).unwrap();
            sys
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join("devices/virtual/block").join(name)
        }

        /// A device with these below it.
        fn add(&self, number: &str, name: &str, slaves: &[&str]) {
            let dir = self.path(name);
            fs::create_dir_all(dir.join("slaves")).unwrap();
            for slave in slaves {
                let file = slave.rsplit('/').next().unwrap();
                symlink(self.path(slave), dir.join("slaves").join(file)).unwrap();
            }
            symlink(&dir, self.0.path().join("dev/block").join(number)).unwrap();
        }

        fn uuid(&self, name: &str, uuid: &str) {
            let dir = self.path(name).join("dm");
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("uuid"), uuid).unwrap();
        }

        fn partition(&self, number: &str, name: &str) {
            self.add(number, name, &[]);
            fs::remove_dir(self.path(name).join("slaves")).unwrap();
            fs::write(self.path(name).join("partition"), "1\n").unwrap();
        }

        fn is_encrypted(&self, number: &str) -> bool {
            Kernel(self.0.path()).is_encrypted(number.parse().unwrap())
        }
    }

    #[test]
    fn what_lies_above_dm_crypt_is_encrypted() {
        let sys = Sys::new();
        sys.add("254:0", "vda", &[]);
        sys.partition("254:1", "vda/vda1");
        sys.add("253:0", "dm-0", &["vda/vda1"]);
        sys.uuid(
            "dm-0",
            "CRYPT-LUKS2-00112233445566778899aabbccddeeff-root\n",
        );
        // LVM on it, and md on that, with a partition.
        sys.add("253:1", "dm-1", &["dm-0"]);
        sys.uuid("dm-1", "LVM-abcdef\n");
        sys.add("9:0", "md0", &["vda", "dm-1"]);
        sys.partition("259:0", "md0/md0p1");
        for number in ["253:0", "253:1", "9:0", "259:0"] {
            assert!(sys.is_encrypted(number), "{number}");
        }
        // What it lies on is, as far as this goes, as it is on the disk.
        for number in ["254:0", "254:1"] {
            assert!(!sys.is_encrypted(number), "{number}");
        }
    }

    #[test]
    fn other_device_mapper_is_not_encrypted() {
        let sys = Sys::new();
        sys.add("254:0", "vda", &[]);
        sys.add("253:0", "dm-0", &["vda"]);
        sys.uuid("dm-0", "LVM-CRYPT-\n");
        // Made by hand, without one.
        sys.add("253:1", "dm-1", &["vda"]);
        sys.uuid("dm-1", "\n");
        for number in ["253:0", "253:1", "7:7"] {
            assert!(!sys.is_encrypted(number), "{number}");
        }
    }

    #[test]
    fn a_ring_of_devices_is_not_followed_for_ever() {
        let sys = Sys::new();
        sys.add("253:0", "dm-0", &["dm-1"]);
        sys.add("253:1", "dm-1", &["dm-0"]);
        assert!(!sys.is_encrypted("253:0"));
    }

    #[test]
    fn blocks_have_the_size_that_the_file_system_says() {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().to_str().unwrap();
        let found = stat(point).unwrap();
        let device = Number {
            major: major(found.st_dev),
            minor: minor(found.st_dev),
        };
        let disks = Kernel(Path::new(disk::SYS));
        assert!(disks.block_size(device, point).is_some_and(|size| size > 0));
        let other = Number {
            minor: device.minor + 1,
            ..device
        };
        assert_eq!(disks.block_size(other, point), None);
    }
}
