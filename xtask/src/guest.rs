// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Builds the guest module in the build root, as one would on the guest: first
//! the package of Rust metadata that Debian's headers lack, then the module.

use crate::cache::Cache;
use crate::exec;
use crate::headers;
use crate::programs;
use crate::project;
use crate::roots::Root;
use crate::setup;
use crate::sources::copy_tree;
use crate::sources::files;
use crate::sources::hash;
use crate::versions::Versions;
use anyhow::Result;
use std::path::PathBuf;

/// Raised when a module is built or installed in another way.
const REVISION: u32 = 3;

/// `cargo xtask guest`.
pub(crate) fn command() -> Result<()> {
    let setup = setup::ensure(false)?;
    let module = module(&setup.cache, &setup.build, &setup.versions)?;
    let tmemctl = programs::tmemctl()?;
    println!("{}", module.file().display());
    println!("{}", tmemctl.display());
    Ok(())
}

/// The built module.
pub(crate) struct Module {
    dir: PathBuf,
}

impl Module {
    /// The module itself.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join("virtio_tmem.ko")
    }

    /// What `make install` puts in place, with `/` being this directory.
    pub(crate) fn installed(&self) -> PathBuf {
        self.dir.join("installed")
    }
}

/// The module, built if its sources or its kernel have changed.
pub(crate) fn module(cache: &Cache, build: &Root, versions: &Versions) -> Result<Module> {
    let sources = project::root().join("guest");
    let files = files(&sources)?;
    let headers = headers::rust_headers(cache, build, versions)?;
    let name = format!(
        "module-{}-{}-{REVISION}",
        versions.kernel,
        hash(&[headers.as_bytes()], &files)?
    );
    let dir = cache.entry(&name, |dir| {
        println!("building virtio_tmem.ko for {}", versions.kernel);
        copy_tree(&sources, &files, &dir.join("source"))?;
        let script = format!(
            "make -C /lib/modules/{kernel}/build M=/mnt/source; \
             make -C /mnt/source KVER={kernel} DESTDIR=/mnt/installed INSTALL_MOD_STRIP=1 install; \
             mv /mnt/source/virtio_tmem.ko /mnt; rm -r /mnt/source",
            kernel = versions.kernel
        );
        let mut make = build.script(dir, &script);
        exec::logged("guest module", &mut make, &cache.log(&name), |_| None)
    })?;
    Ok(Module { dir })
}
