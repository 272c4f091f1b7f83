// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Everything that a guest and the daemon are started from, made up to date.

use crate::cache::Cache;
use crate::guest;
use crate::guest::Module;
use crate::initramfs;
use crate::initramfs::User;
use crate::modules;
use crate::outer;
use crate::package;
use crate::programs;
use crate::programs::InGuest;
use crate::programs::Profile;
use crate::project;
use crate::roots;
use crate::roots::Root;
use crate::setup;
use crate::setup::Setup;
use crate::stock;
use crate::versions::Versions;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tmem_e2e::AreaAssets;
use tmem_e2e::Assets;
use tmem_e2e::PackageAssets;
use tmem_e2e::Services;
use tmem_e2e::StorageAssets;

/// Which guests are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guests {
    /// The agent's only.
    Small,
    /// And those of our own VMM.
    Vmm,
    /// And a Debian system, and those with disks.
    All {
        /// And what is installed on a host, built as it is shipped.
        packages: bool,
    },
    /// The agent's, and one with disks and a daemon that spills to one.
    FailingArea,
    /// The agent's, and those with disks that are measured.
    Measured,
    /// The agent's, and those whose memory is measured.
    Dense,
    /// The agent's, and those of stable Debian kernels.
    Stock {
        /// And a Debian system of those, and what is installed in it.
        installed: bool,
    },
}

/// What sets up disks above disks, in the root of tools.
const STACKERS: &[&str] = &["usr/sbin/dmsetup", "usr/sbin/mdadm"];

/// What makes file systems and checks them, and trees of hashes, in the root of tools.
const TOOLS: &[&str] = &[
    "usr/sbin/mke2fs",
    "usr/sbin/e2fsck",
    "usr/sbin/mkfs.xfs",
    "usr/sbin/xfs_repair",
    "usr/sbin/mkfs.btrfs",
    "usr/bin/btrfs",
    "usr/sbin/veritysetup",
];

/// What scrapes the daemon and judges rules, in Prometheus's root.
const WATCHERS: &[&str] = &["usr/bin/prometheus", "usr/bin/promtool"];

/// Remote memory, and what makes a cluster of it, in Valkey's root.
const ENGINES: &[&str] = &["usr/bin/valkey-server", "usr/bin/valkey-cli"];

/// Builds daemon, module, agent and initramfs, and what else `guests` need.
pub(crate) fn make(profile: Profile, guests: Guests) -> Result<Assets> {
    make_from(&setup::ensure(false)?, profile, guests)
}

/// As [`make`], for one who needs the `setup`, too.
pub(crate) fn make_from(setup: &Setup, profile: Profile, guests: Guests) -> Result<Assets> {
    println!("building the daemon and what runs in guests");
    make_beside(setup, programs::daemon(profile)?, profile, guests)
}

/// As [`make_from`] where somebody else sees to it that `daemon` is built.
pub(crate) fn make_beside(
    setup: &Setup,
    daemon: PathBuf,
    profile: Profile,
    guests: Guests,
) -> Result<Assets> {
    let module = guest::module(&setup.cache, &setup.build, &setup.versions)?;
    let programs = programs::in_guest()?;
    let made = project::made()?;
    let initramfs = made.join("initramfs.cpio");
    initramfs::write(setup, &module, &programs, &initramfs)?;
    let vmm = match guests {
        Guests::Small
        | Guests::FailingArea
        | Guests::Measured
        | Guests::Dense
        | Guests::Stock { .. } => None,
        Guests::Vmm | Guests::All { .. } => Some(outer::make(
            setup,
            &programs::outer_programs(profile)?,
            &initramfs,
        )?),
    };
    let with_work = |name: &str, modules, python| {
        let user = User {
            name: "work",
            program: programs::linked_statically("release", &["tmem-work"])?.join("work"),
            tools: &[],
            python,
            modules,
        };
        storage(setup, &module, &programs, &user, made.join(name))
    };
    let place = made.join("packages");
    let (packages, any_guest) = match guests {
        Guests::All { packages: true } => {
            let made = package::make(setup, &place, profile)?;
            let driver = programs::driver()?;
            let packages = place;
            let assets = PackageAssets { packages, driver };
            (Some(assets), Some(package::any_guest(&made)?))
        }
        Guests::Stock { installed: true } => {
            let made = package::make_without_programs(setup, &place)?;
            (None, Some(package::any_guest(&made)?))
        }
        _ => (None, None),
    };
    let services = match guests {
        Guests::All { .. } => {
            let (cache, versions) = (&setup.cache, &setup.versions);
            let mut services = valkey(cache, versions)?;
            let watchers = runnable(&roots::prometheus(cache, versions)?, WATCHERS);
            services.0.extend(watchers);
            services
        }
        _ => Services::default(),
    };
    let debian = match guests {
        Guests::All { .. } => {
            let root = roots::guest(&setup.cache, &setup.versions)?;
            let debian = made.join("debian.cpio");
            initramfs::write_debian(setup, &module, &root, &programs, &debian)?;
            Some(debian)
        }
        _ => None,
    };
    let storage = match guests {
        Guests::Small | Guests::Vmm | Guests::Stock { .. } => None,
        Guests::All { .. } | Guests::FailingArea => {
            let user = User {
                name: "load",
                program: programs::load()?,
                tools: STACKERS,
                python: None,
                modules: modules::STORAGE,
            };
            let to = made.join("storage.cpio");
            Some(storage(setup, &module, &programs, &user, to)?)
        }
        Guests::Measured => Some(with_work("measured.cpio", modules::STORAGE, None)?),
        Guests::Dense => {
            let python = roots::python(&setup.cache, &setup.versions)?;
            Some(with_work("dense.cpio", modules::MEMORY, Some(python))?)
        }
    };
    let area = match guests {
        Guests::All { .. } | Guests::FailingArea => {
            let [daemon, program] = programs::failing_area()?;
            Some(AreaAssets { daemon, program })
        }
        _ => None,
    };
    let stock = match guests {
        Guests::All {
            packages: installed,
        }
        | Guests::Stock { installed } => stock::make(setup, &programs, &made, installed)?,
        _ => BTreeMap::new(),
    };
    Ok(Assets {
        qemu: qemu(setup),
        qemu_data: qemu_data(setup),
        qemu_modules: setup.qemu.file("usr/lib/x86_64-linux-gnu/qemu"),
        kernel: setup.kernel.clone(),
        initramfs,
        debian,
        packages,
        any_guest,
        daemon,
        vmm,
        storage,
        area,
        stock,
        services,
        logs: made.join("failed-guests"),
    })
}

/// Valkey, made if it is not there.
pub(crate) fn valkey(cache: &Cache, versions: &Versions) -> Result<Services> {
    Ok(Services(runnable(
        &roots::valkey(cache, versions)?,
        ENGINES,
    )))
}

/// Makes what guests with disks need.
fn storage(
    setup: &Setup,
    module: &Module,
    programs: &InGuest,
    user: &User,
    initramfs: PathBuf,
) -> Result<StorageAssets> {
    let root = roots::tools(&setup.cache, &setup.versions)?;
    initramfs::write_with_user(setup, module, programs, (user, &root), &initramfs)?;
    Ok(StorageAssets {
        initramfs,
        tools: runnable(&root, TOOLS),
    })
}

/// How programs of `root` are run on this machine, by their names.
fn runnable(root: &Root, paths: &[&str]) -> BTreeMap<String, Vec<PathBuf>> {
    let words = |path: &&str| {
        let (loader, arguments) = root.loaded(path);
        let words = std::iter::once(loader).chain(arguments.into_iter().map(PathBuf::from));
        let name = path.rsplit('/').next().unwrap_or(path);
        (name.to_string(), words.collect())
    };
    paths.iter().map(words).collect()
}

/// Directories of QEMU's firmware.
pub(crate) fn qemu_data(setup: &Setup) -> Vec<PathBuf> {
    ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"]
        .map(|dir| setup.qemu.file(dir))
        .into()
}

fn qemu(setup: &Setup) -> Vec<PathBuf> {
    let (loader, arguments) = setup.qemu.loaded("usr/bin/qemu-system-x86_64");
    std::iter::once(loader)
        .chain(arguments.into_iter().map(PathBuf::from))
        .collect()
}
