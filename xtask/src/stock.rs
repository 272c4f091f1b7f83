// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests that cannot load the module: Debian's stable releases with the kernels that
//! they are installed with, unmodified. Their disks are virtio-blk.

use crate::initramfs;
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

/// Makes the kernel and the initramfs of each, in the directory `made`.
pub(crate) fn make(
    setup: &Setup,
    programs: &InGuest,
    made: &Path,
) -> Result<BTreeMap<String, StockAssets>> {
    let mirror = &setup.versions.mirror;
    let kernels = Kernels::current(&setup.cache, mirror)?;
    let load = programs::load()?;
    let tools = roots::tools(&setup.cache, &setup.versions)?;
    let mut guests = BTreeMap::new();
    for (suite, name) in SUITES {
        let (release, root) = kernels.root(&setup.cache, suite)?;
        let initramfs = made.join(format!("{name}.cpio"));
        let programs = (programs, load.as_path());
        initramfs::write_stock(setup, programs, &tools, (&root, release), &initramfs)?;
        let guest = StockAssets {
            // As Debian packs it.
            kernel: root.file(&format!("boot/vmlinuz-{release}")),
            release: release.to_string(),
            initramfs,
        };
        guests.insert(name.to_string(), guest);
    }
    Ok(guests)
}
