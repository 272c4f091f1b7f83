// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the daemon is to do, judged before anything is started.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::system::sysinfo;
use tmem_host::size;

use crate::cli::Options;

/// Bytes in a page.
const PAGE: u64 = virtio_tmem::wire::PAGE_SIZE as u64;

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
    /// Where its front end connects.
    pub place: Place,
    /// Most bytes held for it.
    pub quota: u64,
    /// Pages of the swap disk that it is granted.
    pub swap_pages: u64,
}

/// The virtual machines that `options` ask for, in their order.
///
/// # Errors
/// A sentence about the first mistake.
pub fn vms(options: &Options) -> Result<Vec<VmSettings>> {
    let mut vms = Vec::new();
    for path in &options.socket_path {
        vms.push(vm(options, None, Place::Path(path.clone()), None, None)?);
    }
    for text in &options.vm {
        vms.push(own(options, text).with_context(|| format!("--vm {text}"))?);
    }
    if let Some(fd) = options.fd {
        ensure!(
            vms.is_empty(),
            "--fd cannot be combined with --socket-path or --vm"
        );
        vms.push(vm(options, None, Place::Fd(fd), None, None)?);
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
    let mut name = None;
    let mut socket = None;
    let mut quota = None;
    let mut swap = None;
    for setting in text.split(',') {
        let (key, value) = setting
            .split_once('=')
            .with_context(|| format!("'{setting}' is not a setting like quota=2G"))?;
        let size = || size::parse(value).map_err(anyhow::Error::msg);
        match key {
            "name" => name = Some(value.to_owned()),
            "socket" => socket = Some(PathBuf::from(value)),
            "quota" => quota = Some(size()?),
            "swap-size" => swap = Some(size()?),
            _ => bail!("there is no setting '{key}'; name, socket, quota and swap-size are known"),
        }
    }
    let socket = socket.context("the setting socket=PATH is missing")?;
    vm(options, name, Place::Path(socket), quota, swap)
}

fn vm(
    options: &Options,
    name: Option<String>,
    place: Place,
    quota: Option<u64>,
    swap: Option<u64>,
) -> Result<VmSettings> {
    let name = match (name, &place) {
        (Some(name), _) => name,
        (None, Place::Path(path)) => stem(path)?,
        (None, Place::Fd(fd)) => format!("fd{fd}"),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    ensure!(
        !name.is_empty() && name.len() <= 64 && name.chars().all(plain),
        "'{name}' cannot name a virtual machine; use 1 to 64 letters, digits, '-', '_' and '.'"
    );
    let quota = quota.unwrap_or(options.quota);
    ensure!(
        quota >= PAGE,
        "a quota of {quota} bytes holds no page; give at least {PAGE} bytes, or a size like 512M"
    );
    let swap = swap
        .or(options.swap_size)
        .unwrap_or_else(|| quota.saturating_mul(2));
    ensure!(
        swap >= 10 * PAGE,
        "a swap disk of {swap} bytes is of no use; give at least {} bytes, or a size like 1G",
        10 * PAGE
    );
    Ok(VmSettings {
        name,
        place,
        quota,
        swap_pages: swap / PAGE,
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
    let info = sysinfo();
    let host = info.totalram.saturating_mul(u64::from(info.mem_unit));
    let limit = options.memory_limit.unwrap_or(host / 2);
    ensure!(
        limit <= host,
        "a memory limit of {} is more than the host's memory of {}; give a smaller --memory-limit",
        size::show(limit),
        size::show(host)
    );
    Ok(limit)
}
