// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest's directory of kernel modules: ours as `make modules_install` puts
//! it there, and the few of the stock kernel's that the tests need.

use crate::archive::Archive;
use crate::exec;
use crate::guest::Module;
use crate::roots::Root;
use crate::setup::Setup;
use anyhow::Context;
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Files of the kernel's directory below /usr/lib/modules.
const KERNEL_FILES: &[&str] = &[
    "config",
    "modules.builtin",
    "modules.builtin.modinfo",
    "modules.order",
    "modules.symbols",
];

/// The stock kernel's modules that every guest has, with what they depend on.
pub(crate) const STOCK: &[&str] = &[
    // The devices of our VMM; on PCI, QEMU's.
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    // The VMM's button is pressed to ask a guest to switch off.
    "button",
    "evdev",
    // What else reports free memory.
    "virtio_balloon",
    // What the VMM needs where it runs.
    "kvm_amd",
    "kvm_intel",
    "tun",
];

/// Those that a guest with disks has beside.
pub(crate) const STORAGE: &[&str] = &[
    "xfs",
    "btrfs",
    "loop",
    "dm_mod",
    "dm_snapshot",
    "dm_flakey",
    "dm_crypt",
    "dm_delay",
    "dm_thin_pool",
    "dm_verity",
    "raid0",
    "raid456",
    "virtio_scsi",
    "sd_mod",
    "scsi_debug",
    "null_blk",
    "sr_mod",
    "zram",
];

/// Those that a guest has beside whose memory is measured: what swaps into its own
/// memory.
pub(crate) const MEMORY: &[&str] = &["zram"];

/// Those of a guest whose disk is QEMU's, and that has none of ours.
const WITHOUT_OURS: &[&str] = &["virtio_pci", "virtio_blk", "virtio_balloon"];

/// Adds the modules directory with ours and those of the stock kernel's that
/// `lists` name, indexed by depmod, to `archive`. `work` is a directory for
/// this to happen in.
pub(crate) fn add(
    archive: &mut Archive,
    setup: &Setup,
    module: &Module,
    lists: &[&[&str]],
    work: &Path,
) -> Result<()> {
    let kernel = &setup.versions.kernel;
    let name = format!("usr/lib/modules/{kernel}");
    let tree = empty_tree(work, &name)?;
    let updates = tree.join("updates");
    fs::create_dir_all(&updates).context("cannot make the tree of modules")?;
    let stock = setup.build.file(&name);
    let dependencies = fs::read_to_string(stock.join("modules.dep"))
        .context("the kernel has no list of its modules")?;
    let modules = with_dependencies(&dependencies, &lists.concat())?;
    for file in KERNEL_FILES.iter().copied().chain(modules) {
        copy(&stock.join(file), &tree.join(file))?;
    }
    let installed = module
        .installed()
        .join(format!("lib/modules/{kernel}/updates"));
    for entry in fs::read_dir(&installed)
        .with_context(|| format!("`make install` made no {}", installed.display()))?
    {
        let entry = entry.context("cannot read a directory")?;
        copy(&entry.path(), &updates.join(entry.file_name()))?;
    }
    index(setup, work, kernel)?;
    archive.tree(work, &name, &|_| false)
}

/// Adds the directory with the modules of the kernel `release` in `root` that a guest
/// without ours has.
pub(crate) fn add_stock(
    archive: &mut Archive,
    setup: &Setup,
    (root, release): (&Root, &str),
    work: &Path,
) -> Result<()> {
    // Where the package has them: Debian 12's knows no merged /usr.
    let places = ["usr/lib/modules", "lib/modules"].map(|dir| format!("{dir}/{release}"));
    let stock = places.iter().map(|place| root.file(place));
    let stock = stock.into_iter().find(|place| place.exists());
    let stock = stock.with_context(|| format!("there are no modules of {release}"))?;
    let name = format!("usr/lib/modules/{release}");
    // What is only unpacked has no list of which needs which.
    let all = work.join("all");
    let tree = empty_tree(&all, &name)?;
    fs::remove_dir(&tree).context("cannot clear the tree of modules")?;
    std::os::unix::fs::symlink(&stock, &tree).context("cannot make a link")?;
    let mut depmod = setup.build.program("usr/sbin/depmod");
    let lists = exec::output(depmod.args(["-n", "-b"]).arg(&all).arg(release))?;
    // The first of them.
    let dependencies = lists.split("\n#").next().unwrap_or_default();
    let built_in = fs::read_to_string(stock.join("modules.builtin"))
        .context("the kernel has no list of what is built in")?;
    let is_built_in = |name: &&str| built_in.lines().any(|file| module_name(file) == *name);
    let names = WITHOUT_OURS.iter().copied();
    let names: Vec<_> = names.filter(|name| !is_built_in(name)).collect();
    let modules = with_dependencies(dependencies, &names)?;
    let tree = empty_tree(work, &name)?;
    let kernel_files = [
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.order",
    ];
    for file in kernel_files.into_iter().chain(modules) {
        copy(&stock.join(file), &tree.join(file))?;
    }
    index(setup, work, release)?;
    archive.tree(work, &name, &|_| false)
}

/// The directory `name` in `work`, empty, where depmod finds it.
fn empty_tree(work: &Path, name: &str) -> Result<PathBuf> {
    let tree = work.join(name);
    if tree.exists() {
        fs::remove_dir_all(&tree).context("cannot clear the tree of modules")?;
    }
    fs::create_dir_all(&tree).context("cannot make the tree of modules")?;
    // depmod looks below lib/modules.
    let lib = work.join("lib");
    if !lib.is_symlink() {
        std::os::unix::fs::symlink("usr/lib", &lib).context("cannot make a link")?;
    }
    Ok(tree)
}

/// Has depmod write down which module in `work` needs which others.
fn index(setup: &Setup, work: &Path, release: &str) -> Result<()> {
    let mut depmod = setup.build.program("usr/sbin/depmod");
    exec::output(depmod.arg("-b").arg(work).arg(release)).map(|_| ())
}

/// The files of the modules `names` and of all that they depend on, out of the
/// text of `modules.dep`.
fn with_dependencies<'a>(list: &'a str, names: &[&str]) -> Result<BTreeSet<&'a str>> {
    let mut files = BTreeSet::new();
    for name in names {
        let (file, needs) = list
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(file, _)| module_name(file) == *name)
            .with_context(|| format!("the kernel has no module {name}"))?;
        files.insert(file);
        files.extend(needs.split_whitespace());
    }
    Ok(files)
}

/// The module's name by that of its file: `kvm_amd` for `…/kvm-amd.ko.xz`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    let name = name.split_once(".ko").map_or(name, |(name, _)| name);
    name.replace('-', "_")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "kernel/x86/kvm.ko.xz: kernel/lib/irqbypass.ko.xz\n\
                        kernel/x86/kvm-amd.ko.xz: kernel/x86/kvm.ko.xz kernel/lib/irqbypass.ko.xz\n\
                        kernel/net/tun.ko.xz:\n\
                        kernel/lib/irqbypass.ko.xz:\n";

    #[test]
    fn a_module_comes_with_its_dependencies() {
        let files = with_dependencies(LIST, &["kvm_amd"]).unwrap();
        assert_eq!(
            files.into_iter().collect::<Vec<_>>(),
            [
                "kernel/lib/irqbypass.ko.xz",
                "kernel/x86/kvm-amd.ko.xz",
                "kernel/x86/kvm.ko.xz"
            ]
        );
    }

    #[test]
    fn a_module_that_the_kernel_lacks_is_named() {
        let error = with_dependencies(LIST, &["tun", "kvm_arm"]).unwrap_err();
        assert!(error.to_string().contains("kvm_arm"), "{error}");
    }
}
