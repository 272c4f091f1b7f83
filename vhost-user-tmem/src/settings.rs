// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the daemon is to do, judged before anything is started.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tmem_cli::settings::Settings;
use tmem_cli::size;
use tmem_host::group::Group;
use tmem_store::{ClientConfig, Compression};
use uuid::Uuid;
use virtio_tmem::device::{GiveBack, Quota};

use crate::cli::Options;
use crate::takeover::identity_of;
use crate::values::{quota, weight};

/// Bytes in a page.
const PAGE: u64 = virtio_tmem::wire::PAGE_SIZE as u64;

/// The swap disk of a virtual machine on credit, if nothing is said. Pages are
/// refused when the credit is used up, not when the disk is full.
const CREDIT_SWAP: u64 = 4 << 30;

/// Where a front end connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A socket to be made.
    Path(PathBuf),
    /// An inherited listening socket.
    Fd(i32),
}

/// One virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmSettings {
    /// Its name: in log lines, statistics and the control API.
    pub name: String,
    /// Who it is for the next daemon, too.
    pub identity: Uuid,
    /// Where its front end connects.
    pub place: Place,
    /// Most bytes held for it.
    pub quota: Quota,
    /// Its part of the memory when that is short.
    pub weight: u32,
    /// Pages of the swap disk that it is granted.
    pub swap_pages: u64,
    /// How its pages are compressed.
    pub codec: Compression,
    /// Which of its memory goes back to the host.
    pub give_back: GiveBack,
}

/// The virtual machines that `options` ask for, in their order.
///
/// # Errors
/// A sentence about the first mistake.
pub fn vms(options: &Options) -> Result<Vec<VmSettings>> {
    let mut vms = Vec::new();
    for path in &options.socket_path {
        let place = Place::Path(path.clone());
        vms.push(vm(options, place, Own::default())?);
    }
    for text in &options.vm {
        vms.push(own(options, text).with_context(|| format!("--vm {text}"))?);
    }
    if let Some(fd) = options.fd {
        ensure!(
            vms.is_empty(),
            "--fd cannot be combined with --socket-path or --vm"
        );
        vms.push(vm(options, Place::Fd(fd), Own::default())?);
    }
    ensure!(
        !vms.is_empty(),
        "no virtual machine to serve; give --socket-path PATH, --vm socket=PATH or --fd N"
    );
    let mut names = BTreeSet::new();
    for vm in &vms {
        ensure!(
            names.insert(&vm.name),
            "two virtual machines are named '{}'; give one of them another name with --vm name=…",
            vm.name
        );
    }
    Ok(vms)
}

/// A `--vm` argument.
fn own(options: &Options, text: &str) -> Result<VmSettings> {
    let settings = Settings::parse(text, &KEYS, "quota=2G").map_err(anyhow::Error::msg)?;
    let socket = settings.get("socket");
    let own = Own::read(&settings).map_err(anyhow::Error::msg)?;
    let socket = socket.context("the setting socket=PATH is missing")?;
    vm(options, Place::Path(socket.into()), own)
}

/// The settings of `--vm`.
const KEYS: [&str; 8] = [
    "name",
    "identity",
    "socket",
    "quota",
    "weight",
    "swap-size",
    "codec",
    "give-back",
];

/// What is said of one virtual machine.
#[derive(Default)]
struct Own {
    name: Option<String>,
    identity: Option<Uuid>,
    quota: Option<Quota>,
    weight: Option<u32>,
    swap: Option<u64>,
    codec: Compression,
    give_back: GiveBack,
}

impl Own {
    fn read(settings: &Settings<'_>) -> Result<Self, String> {
        Ok(Self {
            name: settings.get("name").map(str::to_owned),
            identity: settings.get_as("identity", |text| {
                Uuid::try_parse(text).map_err(|_| format!("'{text}' is not a UUID"))
            })?,
            quota: settings.get_as("quota", quota)?,
            weight: settings.get_as("weight", weight)?,
            swap: settings.get_as("swap-size", size::parse)?,
            codec: settings
                .get_as("codec", Compression::parse)?
                .unwrap_or_default(),
            give_back: settings
                .get_as("give-back", GiveBack::parse)?
                .unwrap_or_default(),
        })
    }
}

fn vm(options: &Options, place: Place, own: Own) -> Result<VmSettings> {
    let name = match (own.name, &place) {
        (Some(name), _) => name,
        (None, Place::Path(path)) => stem(path)?,
        (None, Place::Fd(fd)) => format!("fd{fd}"),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    ensure!(
        !name.is_empty() && name.len() <= 64 && name.chars().all(plain),
        "'{name}' cannot name a virtual machine; use 1 to 64 letters, digits, '-', '_' and '.'"
    );
    let quota = own.quota.unwrap_or(options.quota);
    if let Quota::Fixed(bytes) = quota {
        ensure!(
            bytes >= PAGE,
            "a quota of {bytes} bytes holds no page; give at least {PAGE} bytes, or a size like \
             512M"
        );
    }
    let swap = own.swap.or(options.swap_size).unwrap_or(match quota {
        Quota::Fixed(bytes) => bytes.saturating_mul(2),
        Quota::Credit { .. } => CREDIT_SWAP,
    });
    ensure!(
        swap >= 10 * PAGE,
        "a swap disk of {swap} bytes is of no use; give at least {} bytes, or a size like 1G",
        10 * PAGE
    );
    Ok(VmSettings {
        identity: own.identity.unwrap_or_else(|| identity_of(&name)),
        name,
        place,
        quota,
        weight: own.weight.unwrap_or(ClientConfig::WEIGHT),
        swap_pages: swap / PAGE,
        codec: own.codec,
        give_back: own.give_back,
    })
}

fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.with_context(|| {
        format!(
            "the socket path '{}' gives the virtual machine no name; use --vm name=…,socket=…",
            path.display()
        )
    })?;
    Ok(stem.to_owned())
}

/// Most bytes that the store may hold.
///
/// # Errors
/// When more is asked for than the host has.
pub fn memory_limit(options: &Options) -> Result<u64> {
    let host = tmem_host::memory::of_host();
    let group = Group::own().and_then(|group| group.limit());
    let group = group.unwrap_or(host);
    let limit = options.memory_limit.unwrap_or(group.min(host) / 2);
    ensure!(
        limit <= host,
        "a memory limit of {} is more than the host's memory of {}; give a smaller --memory-limit",
        size::show(limit),
        size::show(host)
    );
    if limit > group {
        log::warn!(
            "the control group of the daemon may have {}, and the store {}: puts are refused before the store is full; give a smaller --memory-limit, or the group more",
            size::show(group),
            size::show(limit)
        );
    }
    Ok(limit)
}
