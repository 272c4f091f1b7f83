// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disks under load: mounted file systems, and one that is used raw.

use crate::bed;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::path::PathBuf;
use tmem_e2e::Bus;
use tmem_e2e::Drive;
use tmem_e2e::Filesystem;
use tmem_e2e::Guest;
use tmem_e2e::Image;
use tmem_e2e::Load;
use tmem_load::blocks;
use tmem_load::blocks::Model;
use tmem_load::report::Report;

/// Size of a disk with a file system, in MiB: what XFS wants at least, and
/// some. Most of it is never written.
const DISK: u64 = 512;

/// Of the raw disk; all of it is.
const RAW_DISK: u64 = 24;

/// What the files of a file system take together, in MiB.
const FILES: u64 = 40;

/// What a disk is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Mounted(Filesystem),
    Raw,
}

impl Use {
    /// The three file systems, and a disk without.
    pub(super) const ALL: [Self; 4] = [
        Self::Mounted(Filesystem::Ext4),
        Self::Mounted(Filesystem::Xfs),
        Self::Mounted(Filesystem::Btrfs),
        Self::Raw,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mounted(filesystem) => filesystem.name(),
            Self::Raw => "raw",
        }
    }
}

/// A disk before there is a guest.
pub(super) struct Disk {
    pub(super) usage: Use,
    pub(super) image: Image,
    bus: Bus,
}

impl Disk {
    /// A disk on `bus`; with a file system, in a partition if `partition`.
    pub(super) fn new(usage: Use, bus: Bus, partition: bool) -> Result<Self> {
        let size = match usage {
            Use::Mounted(_) => DISK,
            Use::Raw => RAW_DISK,
        };
        let mut image = if partition {
            // The table and the second partition take the rest.
            Image::partitioned(size + 8, size)?
        } else {
            Image::empty(size)?
        };
        if let Use::Mounted(filesystem) = usage {
            image.format(&bed::assets()?, filesystem)?;
        }
        Ok(Self { usage, image, bus })
    }

    pub(super) fn drive(&self) -> Drive {
        Drive {
            bus: self.bus,
            ..Drive::new(self.image.path())
        }
    }

    /// What the disks' devices are called in a guest that has these, in this
    /// order.
    pub(super) fn devices(guest: &Guest, disks: &[Self]) -> Result<Vec<String>> {
        let devices = disks
            .iter()
            .enumerate()
            .map(|(number, disk)| Ok(disk.image.device(&guest.drive(number)?)));
        devices.collect()
    }
}

/// A disk in a guest, with load on it.
pub(super) struct Place {
    pub(super) disk: Disk,
    pub(super) device: String,
    pub(super) load: Load,
    pub(super) attached: bool,
}

impl Place {
    /// Mounts it, if it is to be, and starts the load.
    pub(super) fn start(
        guest: &Guest,
        disk: Disk,
        device: String,
        seed: u32,
        seconds: u64,
    ) -> Result<Self> {
        tmem_e2e::until(&device, bed::PROMPT, || {
            let there = guest.try_run(&format!("busybox test -b {device}"))?.0 == 0;
            Ok(there.then_some(()))
        })?;
        let name = disk.usage.name();
        let load = match disk.usage {
            Use::Mounted(_) => {
                guest.run(&format!("mkdir -p /mnt/{name}"))?;
                guest.run(&format!("modprobe {name}")).or_else(|error| {
                    // ext4 is built in.
                    if name == "ext4" {
                        Ok(String::new())
                    } else {
                        Err(error)
                    }
                })?;
                guest.run(&format!(
                    "busybox mount -t {name} -o discard {device} /mnt/{name}"
                ))?;
                guest.load(&format!(
                    "files /mnt/{name}/load --seed {seed} --seconds {seconds} --size-mib {FILES}"
                ))?
            }
            Use::Raw => guest.load(&format!(
                "blocks {device} --seed {seed} --seconds {seconds} --model {}",
                Self::model_path().display()
            ))?,
        };
        Ok(Self {
            disk,
            device,
            load,
            attached: false,
        })
    }

    /// Waits until the load, which was told so, has ended, and unmounts. What is on the disk is
    /// looked at with [`Ended::check`], once the guest is off.
    pub(super) fn end(mut self, guest: &Guest) -> Result<Ended> {
        let name = self.disk.usage.name();
        let report = self.load.ended()?;
        let mut model = None;
        match self.disk.usage {
            Use::Mounted(_) => {
                guest.run(&format!("busybox umount /mnt/{name}"))?;
            }
            Use::Raw => {
                let path = Self::model_path();
                let path = path.display();
                guest.run(&format!("load check {} --model {path}", self.device))?;
                let text = guest.read(&path.to_string())?;
                model = Some(serde_json::from_str(&text).context("the model is damaged")?);
            }
        }
        Ok(Ended {
            usage: self.disk.usage,
            image: self.disk.image,
            report,
            model,
        })
    }

    fn model_path() -> PathBuf {
        "/run/model".into()
    }
}

/// A disk after its guest.
pub(super) struct Ended {
    pub(super) usage: Use,
    image: Image,
    pub(super) report: Report,
    model: Option<Model>,
}

impl Ended {
    /// Looks at the image itself: the file system is whole, every sector of
    /// the raw disk is right.
    pub(super) fn check(&self) -> Result<()> {
        match &self.model {
            None => self.image.check(&bed::assets()?),
            Some(model) => {
                let (wrong, texts) = blocks::check(&self.image.path(), 0, model)?;
                ensure!(
                    wrong == 0,
                    "{wrong} sectors of the image are wrong: {texts:?}"
                );
                Ok(())
            }
        }
    }
}
