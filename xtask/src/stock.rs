// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests that cannot load the module: Debian's stable releases with the kernels that
//! they are installed with, unmodified. Their disks are virtio-blk.

use crate::busybox;
use crate::initramfs::stock as initramfs;
use crate::programs;
use crate::programs::InGuest;
use crate::roots;
use crate::setup::Setup;
use crate::stable::Kernels;
use crate::stable::SUITES;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;
use tmem_e2e::StockAssets;

/// The suite whose kernel those guests have that are not small ones of Debian.
const NEWEST: &str = "trixie";

/// Makes the kernel and the initramfs of each, in the directory `made`; of a whole Debian
/// system, too, if `systems` are wanted.
pub(crate) fn make(
    setup: &Setup,
    programs: &InGuest,
    made: &Path,
    systems: bool,
) -> Result<BTreeMap<String, StockAssets>> {
    let mirror = &setup.versions.mirror;
    let kernels = Kernels::current(&setup.cache, mirror)?;
    let load = programs::load()?;
    let tools = roots::tools(&setup.cache, &setup.versions)?;
    let mut guests = BTreeMap::new();
    for (suite, name) in SUITES {
        let (release, root) = kernels.root(&setup.cache, suite)?;
        let kernel = (&root, release);
        let mut add = |name: &str, write: &dyn Fn(&Path) -> Result<()>| -> Result<()> {
            let initramfs = made.join(format!("{name}.cpio"));
            write(&initramfs)?;
            let guest = StockAssets {
                // As Debian packs it.
                kernel: root.file(&format!("boot/vmlinuz-{release}")),
                release: release.to_string(),
                initramfs,
            };
            guests.insert(name.to_string(), guest);
            Ok(())
        };
        add(name, &|to| {
            initramfs::write(setup, (programs, &load), &tools, kernel, to)
        })?;
        if suite != NEWEST {
            continue;
        }
        let busybox = busybox::make(&setup.cache, &setup.build, &setup.versions)?;
        add("musl", &|to| {
            initramfs::write_musl(setup, programs, &busybox, kernel, to)
        })?;
        if systems {
            let debian = roots::guest(&setup.cache, &setup.versions)?;
            add("debian13-system", &|to| {
                initramfs::write_system(setup, programs, &debian, kernel, to)
            })?;
        }
    }
    Ok(guests)
}
