// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disks that QEMU gives a guest.

use std::path::Path;
use std::path::PathBuf;

/// Chassis numbers of the ports that disks are plugged into begin here.
const CHASSIS: usize = 16;

/// What a disk is connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// `/dev/vda` and so on.
    #[default]
    Virtio,
    /// `/dev/nvme0n1` and so on.
    Nvme,
    /// `/dev/sda` and so on, behind a virtio controller of its own.
    Scsi,
    /// `/dev/sr0`, likewise.
    Cd,
    /// `/dev/nvme0n1`, which stands for all paths to it; there is one.
    NvmePaths,
}

/// What this machine's page cache is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostCache {
    /// For all of the disk: QEMU's `cache=writeback`.
    #[default]
    Yes,
    /// For nothing: QEMU's `cache=none`.
    No,
}

/// A disk; it can be unplugged.
#[derive(Clone, Debug)]
pub struct Drive {
    /// A raw image.
    pub image: PathBuf,
    /// What it is connected to.
    pub bus: Bus,
    /// A new file that every write, discard and flush is logged to, in order.
    pub log: Option<PathBuf>,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Whether the image is kept in this machine's page cache.
    pub host_cache: HostCache,
}

impl Drive {
    /// A virtio disk.
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            bus: Bus::default(),
            log: None,
            read_only: false,
            host_cache: HostCache::default(),
        }
    }

    /// The name of the disk `number`, counted from 0, in QEMU.
    pub(crate) fn device_id(number: usize) -> String {
        format!("disk{number}")
    }

    /// QEMU's arguments.
    pub(crate) fn words(&self, number: usize) -> Vec<String> {
        let id = Self::device_id(number);
        let (node, port) = (format!("{id}-node"), format!("{id}-port"));
        // What the guest has not flushed stays in this machine's memory.
        let file = |path: &Path| format!("driver=file,filename={},discard=unmap", escaped(path));
        let read_only = if self.read_only { "on" } else { "off" };
        let raw = |node: &str, path: &Path| {
            let file = file(path).replace("driver=", "file.driver=");
            let file = file.replace(",filename=", ",file.filename=");
            let file = file.replace(",discard=", ",file.discard=");
            let direct = match self.host_cache {
                HostCache::Yes => "",
                HostCache::No => ",cache.direct=on,file.cache.direct=on",
            };
            format!(
                "driver=raw,node-name={node},read-only={read_only},discard=unmap,{file}{direct}"
            )
        };
        let mut words = Vec::new();
        let mut add = |option: &str, value: String| words.extend([option.to_string(), value]);
        match &self.log {
            None => add("-blockdev", raw(&node, &self.image)),
            Some(log) => {
                add("-blockdev", raw(&format!("{id}-data"), &self.image));
                add("-blockdev", format!("{},node-name={id}-log", file(log)));
                add(
                    "-blockdev",
                    format!(
                        "driver=blklogwrites,node-name={node},file={id}-data,log={id}-log,\
                         log-sector-size=512"
                    ),
                );
            }
        }
        let chassis = CHASSIS + number;
        add(
            "-device",
            format!("pcie-root-port,id={port},chassis={chassis}"),
        );
        match self.bus {
            Bus::Virtio => add(
                "-device",
                format!("virtio-blk-pci,id={id},serial={id},drive={node},bus={port}"),
            ),
            Bus::Nvme => add(
                "-device",
                format!("nvme,id={id},serial={id},drive={node},bus={port}"),
            ),
            Bus::NvmePaths => {
                add("-device", format!("nvme-subsys,id={id}-subsys,nqn={id}"));
                add(
                    "-device",
                    format!("nvme,id={id},serial={id},subsys={id}-subsys,bus={port}"),
                );
                add("-device", format!("nvme-ns,drive={node},bus={id},nsid=1"));
            }
            Bus::Cd => {
                add(
                    "-device",
                    format!("virtio-scsi-pci,id={id}-scsi,bus={port}"),
                );
                add(
                    "-device",
                    format!("scsi-cd,id={id},serial={id},drive={node},bus={id}-scsi.0"),
                );
            }
            Bus::Scsi => {
                add(
                    "-device",
                    format!("virtio-scsi-pci,id={id}-scsi,bus={port}"),
                );
                add(
                    "-device",
                    format!("scsi-hd,id={id},serial={id},drive={node},bus={id}-scsi.0"),
                );
            }
        }
        words
    }
}

/// A path as a value in QEMU's lists.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_disk_is_seen_through_its_log() {
        let drive = Drive {
            log: Some("/tmp/a,b".into()),
            ..Drive::new("/tmp/image")
        };
        let words = drive.words(2).join(" ");
        assert!(words.contains("file.filename=/tmp/image"), "{words}");
        assert!(words.contains("filename=/tmp/a,,b,discard"), "{words}");
        assert!(words.contains("file=disk2-data,log=disk2-log"), "{words}");
        assert!(
            words.contains("id=disk2,serial=disk2,drive=disk2-node"),
            "{words}"
        );
    }

    #[test]
    fn the_host_caches_unless_told_not_to() {
        let drive = Drive::new("/tmp/image");
        assert!(!drive.words(0).join(" ").contains("direct"));
        let drive = Drive {
            host_cache: HostCache::No,
            ..drive
        };
        let words = drive.words(0).join(" ");
        assert!(words.contains(",cache.direct=on"), "{words}");
        assert!(words.contains("file.cache.direct=on"), "{words}");
    }
}
