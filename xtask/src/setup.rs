// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask setup`: everything that is not in the checkout and not made
//! from it.

use crate::busybox;
use crate::cache;
use crate::cache::Cache;
use crate::deny;
use crate::headers;
use crate::host;
use crate::kernel;
use crate::mirror;
use crate::roots;
use crate::roots::Root;
use crate::stable;
use crate::uml_kernel;
use crate::versions::Versions;
use anyhow::Result;
use std::path::PathBuf;
use std::time::Instant;

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Ask the mirror for newer versions even if it was asked today.
    #[arg(long)]
    refresh: bool,
    /// Also remove what older versions left in the cache.
    #[arg(long)]
    prune: bool,
}

/// What `setup` makes.
pub(crate) struct Setup {
    /// The cache, locked.
    pub(crate) cache: Cache,
    /// What is current.
    pub(crate) versions: Versions,
    /// The root to build the guest module in.
    pub(crate) build: Root,
    /// The root that QEMU runs out of.
    pub(crate) qemu: Root,
    /// The guest's kernel, an ELF file.
    pub(crate) kernel: PathBuf,
}

/// `cargo xtask setup`.
pub(crate) fn command(options: &Options) -> Result<()> {
    let start = Instant::now();
    let setup = ensure(options.refresh)?;
    deny::program(&setup.cache)?;
    println!(
        "ready after {:.1} s: kernel {}, {}, QEMU {}",
        start.elapsed().as_secs_f32(),
        setup.versions.kernel,
        setup.versions.rustc,
        setup.versions.qemu,
    );
    println!("  build root  {}", setup.build.dir().display());
    println!("  QEMU root   {}", setup.qemu.dir().display());
    println!("  kernel      {}", setup.kernel.display());
    if options.prune {
        prune(&setup)?;
    }
    Ok(())
}

/// Removes what belongs to other versions, and all built modules and what was
/// found out about them, which are made again in seconds.
fn prune(setup: &Setup) -> Result<()> {
    let versions = &setup.versions;
    let whole = [
        roots::build_name(versions),
        roots::qemu_name(versions),
        roots::guest_name(versions),
        roots::tools_name(),
        roots::python_name(),
        roots::packager_name(),
        roots::prometheus_name(),
        roots::valkey_name(),
        roots::recipes_name(versions),
        roots::checkers_name(versions),
        kernel::name(versions),
        deny::name(),
    ];
    let stock = stable::Kernels::current(&setup.cache, &versions.mirror)?.names();
    let kernels = uml_kernel::names(versions)?;
    let made = [
        headers::rust_headers_name(versions)?,
        busybox::name(versions)?,
    ];
    for name in setup.cache.entries()? {
        if ![whole.as_slice(), &stock, &kernels, &made]
            .iter()
            .any(|kept| kept.contains(&name))
        {
            println!("removing {name}");
            cache::remove_tree(&setup.cache.path(&name))?;
        }
    }
    Ok(())
}

/// Makes what is missing, after saying what that is.
pub(crate) fn ensure(refresh: bool) -> Result<Setup> {
    let dir = cache::location()?;
    let mirror = mirror::find()?;
    let cache = Cache::open(dir.clone())?;
    let missing = host::missing();
    if !missing.is_empty() {
        println!("host packages that are missing: {}", missing.join(" "));
        host::install(&missing, &cache.log("host-packages"))?;
    }
    let versions = Versions::current(&cache, &mirror, refresh)?;
    let plan = [
        (
            roots::build_name(&versions),
            "build root",
            roots::BUILD_SIZE,
        ),
        (roots::qemu_name(&versions), "QEMU root", roots::QEMU_SIZE),
    ];
    if plan.iter().any(|(name, ..)| !cache.has(name)) {
        println!("to be made in {} (remove it to undo):", dir.display());
        for (name, what, size) in plan.iter().filter(|(name, ..)| !cache.has(name)) {
            println!("  {what:<10}  {size}: {name}");
        }
        println!(
            "  kernel      {} {}",
            versions.kernel, versions.kernel_package
        );
    }
    let build = roots::build(&cache, &versions)?;
    kernel::check_rust(&build, &versions)?;
    let qemu = roots::qemu(&cache, &versions)?;
    let kernel = kernel::elf(&cache, &build, &versions)?;
    headers::rust_headers(&cache, &build, &versions)?;
    Ok(Setup {
        cache,
        versions,
        build,
        qemu,
        kernel,
    })
}
