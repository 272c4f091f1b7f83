// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests and who serves them: one of each for each build of the module.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tmem_probe::order::Order;

use super::guest::{Guest, Machine};
use super::subject::Subject;
use super::{Args, READ};
use crate::vhost::{self, Peer};

/// virtio's numbers of devices.
const BLOCK_DEVICE: u32 = 2;
const TMEM_DEVICE: u32 = 60;

/// Size of zram, and of disks of other back ends.
const MIB: u64 = 64;

/// A build of the module, and how it is loaded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variant {
    pub(super) name: String,
    module: PathBuf,
    parameters: String,
}

impl Variant {
    pub(super) fn parse(text: &str) -> Result<Self> {
        // A name may be that of a parameter with its value; paths begin at the root.
        let parts = text.split_once("=/");
        let (name, rest) =
            parts.with_context(|| format!("{text}: a variant is NAME=/PATH[:PARAMETERS]"))?;
        let (module, parameters) = rest.split_once(':').unwrap_or((rest, ""));
        Ok(Self {
            name: name.into(),
            module: Path::new("/").join(module),
            parameters: parameters.into(),
        })
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let module = self.module.display();
        write!(f, "{}: {module} {}", self.name, self.parameters)
    }
}

/// What the disks of a guest have in them.
pub(super) struct Content {
    /// Pages that are written.
    pub(super) pages: PathBuf,
    pub(super) count: usize,
    /// A file system.
    pub(super) files: PathBuf,
}

/// All guests.
#[derive(Default)]
pub(super) struct Guests {
    pub(super) running: Vec<Guest>,
    /// What the guests' modules are called.
    pub(super) names: Vec<String>,
    /// Who serves devices and disks of all of them.
    pub(super) peers: Vec<Peer>,
    /// Which of those serves a guest's module.
    devices: Vec<usize>,
}

impl Guests {
    /// Starts a guest with this build of the module; the first also has all raw disks that it is
    /// compared with. Gives back its raw disks.
    pub(super) fn add(
        &mut self,
        variant: &Variant,
        args: &Args,
        others: &vhost::Args,
        work: &Path,
        content: &Content,
    ) -> Result<Vec<Subject>> {
        let number = self.running.len();
        let mut devices = Vec::new();
        let mut subjects = Vec::new();
        let daemon = others.daemon();
        let peer = Peer::default_daemon(daemon, &args.daemon_option)?;
        devices.push((self.listen(peer)?, TMEM_DEVICE));
        self.devices.push(self.peers.len() - 1);
        subjects.push(Subject::new(
            &variant.name,
            number,
            "/dev/tmem0",
            Some(self.peers.len() - 1),
        ));
        if number == 0 {
            subjects.push(Subject::new("zram", number, "/dev/zram0", None));
            let mut names = ["/dev/vda", "/dev/vdb"].iter();
            let size = MIB << 20;
            if let Some((program, words)) = others.storage_daemon() {
                let peer = Peer::storage_daemon(program, words, size)?;
                devices.push((self.listen(peer)?, BLOCK_DEVICE));
                let disk = names.next().context("no name")?;
                subjects.push(Subject::new(
                    "virtio-blk",
                    number,
                    disk,
                    Some(self.peers.len() - 1),
                ));
            }
            let peer = Peer::disk(daemon, size)?;
            devices.push((self.listen(peer)?, BLOCK_DEVICE));
            let disk = names.next().context("no name")?;
            subjects.push(Subject::new(
                "plain disk",
                number,
                disk,
                Some(self.peers.len() - 1),
            ));
            subjects.push(Subject::new("RAM disk", number, "/dev/ram0", None));
        }
        let mut guest = Guest::start(&Machine {
            linux: &args.linux,
            initramfs: &args.guest_initramfs,
            devices,
            disks: vec![content.pages.clone(), content.files.clone()],
            log: work.join(format!("console-{number}")),
        })?;
        guest.order(&Order::Content {
            from: "/dev/ubda".into(),
            pages: content.count,
        })?;
        guest.order(&Order::Insert {
            module: variant.module.clone(),
            parameters: variant.parameters.clone(),
            device: Some("/dev/tmem0".into()),
        })?;
        if number == 0 {
            guest.order(&Order::Zram { mib: MIB })?;
        }
        self.running.push(guest);
        self.names.push(variant.name.clone());
        for subject in &subjects {
            subject
                .fill(&mut self.running, READ)
                .with_context(|| subject.name.clone())?;
        }
        Ok(subjects)
    }

    fn listen(&mut self, mut peer: Peer) -> Result<PathBuf> {
        let socket = peer.listening()?.to_path_buf();
        self.peers.push(peer);
        Ok(socket)
    }

    /// Which back end serves the module of a guest.
    pub(super) fn device_of(&self, guest: usize) -> Result<usize> {
        self.devices.get(guest).copied().context("no such guest")
    }

    /// Turns all of them off.
    pub(super) fn end(self) -> Result<()> {
        self.running.into_iter().try_for_each(Guest::end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_has_a_name_a_module_and_maybe_parameters() {
        let variant = Variant::parse("poll_us=0 eager=1=/lib/tmem.ko:poll_us=0 eager=1").unwrap();
        assert_eq!(variant.name, "poll_us=0 eager=1");
        assert_eq!(variant.module, Path::new("/lib/tmem.ko"));
        assert_eq!(variant.parameters, "poll_us=0 eager=1");
        assert_eq!(Variant::parse("tmem=/a.ko").unwrap().parameters, "");
        assert!(Variant::parse("/a.ko").is_err());
    }

    #[test]
    fn pages_that_are_read_fit_twice() {
        assert!(READ * 2 * tmem_store::PAGE_SIZE as u64 <= MIB << 20);
    }
}
