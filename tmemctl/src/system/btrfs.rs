// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which devices a btrfs has: mountinfo names only one, and gives a number that
//! is no device's.

use std::fs;
use std::path::Path;

use crate::disk::Number;

/// A device of a mounted btrfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The file system's UUID.
    pub(super) file_system: String,
    /// The device.
    pub(super) device: Number,
}

/// Reads `dir`, which is /sys/fs/btrfs: in it, `UUID/devices/NAME` is a link to
/// a block device's directory, which has its number in the file `dev`. What
/// cannot be read is left out.
pub(super) fn members(dir: &Path) -> Vec<Member> {
    let mut members = Vec::new();
    for (file_system, path) in entries(dir) {
        for (_, path) in entries(&path.join("devices")) {
            let number = fs::read_to_string(path.join("dev"));
            if let Some(device) = number.ok().and_then(|text| text.trim_end().parse().ok()) {
                members.push(Member {
                    file_system: file_system.clone(),
                    device,
                });
            }
        }
    }
    members
}

fn entries(dir: &Path) -> Vec<(String, std::path::PathBuf)> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn all_devices_of_all_file_systems_are_found() {
        let sys = tempfile::tempdir().unwrap();
        for (uuid, name, number) in [
            ("0a", "vdb", "254:16\n"),
            ("0a", "vdc", "254:32\n"),
            ("0b", "vdd", "254:48\n"),
        ] {
            let block = sys.path().join("block").join(name);
            fs::create_dir_all(&block).unwrap();
            fs::write(block.join("dev"), number).unwrap();
            let devices = sys.path().join("btrfs").join(uuid).join("devices");
            fs::create_dir_all(&devices).unwrap();
            symlink(&block, devices.join(name)).unwrap();
        }
        // What else there is, and a device that is gone.
        fs::create_dir(sys.path().join("btrfs/features")).unwrap();
        symlink("nowhere", sys.path().join("btrfs/0b/devices/vde")).unwrap();

        let member = |uuid: &str, device: &str| Member {
            file_system: uuid.into(),
            device: device.parse().unwrap(),
        };
        assert_eq!(
            members(&sys.path().join("btrfs")),
            [
                member("0a", "254:16"),
                member("0a", "254:32"),
                member("0b", "254:48"),
            ]
        );
    }

    #[test]
    fn without_btrfs_there_are_none() {
        assert_eq!(members(Path::new("/no such directory")), []);
    }
}
