// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Mounted file systems: /proc/self/mountinfo, as in proc_pid_mountinfo(5).

use super::unescape;
use crate::disk::Number;

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The device, as the file system says; with major 0 there is none, or more
    /// than one.
    pub(super) device: Number,
    /// Where it is mounted.
    pub(super) point: String,
    /// Its type, as ext4.
    pub(super) kind: String,
    /// What was mounted, as /dev/vda1.
    pub(super) source: String,
}

/// Reads the text of a mountinfo file; lines that are not understood are left
/// out.
pub(super) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(line).collect()
}

/// `id parent device root point options [tags…] - type source options`
fn line(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let mut file_system = file_system.split(' ');
    Some(Mount {
        device: mount.next()?.parse().ok()?,
        point: unescape(mount.nth(1)?),
        kind: unescape(file_system.next()?),
        source: unescape(file_system.next()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_and_without_tags() {
        let text = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard
41 27 254:17 /sub /mnt/a\\040b ro master:2 propagate_from:1 - xfs /dev/vdb1 rw
nonsense
";
        let mount = |device: &str, point: &str, kind: &str, source: &str| Mount {
            device: device.parse().unwrap(),
            point: point.into(),
            kind: kind.into(),
            source: source.into(),
        };
        assert_eq!(
            parse(text),
            [
                mount("0:21", "/proc", "proc", "proc"),
                mount("254:1", "/", "ext4", "/dev/vda1"),
                mount("254:17", "/mnt/a b", "xfs", "/dev/vdb1"),
            ]
        );
    }

    #[test]
    fn broken_lines_are_left_out() {
        for text in [
            "",
            "\n\n",
            "1 2 254:1 / /",
            "1 2 x:1 / / rw - ext4 /dev/vda1 rw",
            "1 2 254:1 - ext4 /dev/vda1 rw",
            "1 2 254:1 / / rw - ext4",
        ] {
            assert_eq!(parse(text), [], "{text}");
        }
    }
}
