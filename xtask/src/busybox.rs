// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! busybox linked with musl, of which small distributions are made: Debian's source of it,
//! built with Debian's musl in the build root. Debian has no such package.

use crate::apt::Apt;
use crate::cache::Cache;
use crate::exec;
use crate::roots::Root;
use crate::sources;
use crate::versions::Versions;
use anyhow::Result;
use std::path::PathBuf;

/// What it is asked to do in a guest.
pub(crate) const APPLETS: &[&str] = &[
    "awk", "cat", "grep", "init", "ls", "lsmod", "mkswap", "modprobe", "mount", "sh", "swapoff",
    "swapon",
];

/// The options that are set beside those of [`APPLETS`]: modules are compressed with xz,
/// `swapon` can discard, and `init` is told what to do.
const OPTIONS: &[&str] = &[
    "LFS",
    "SH_IS_ASH",
    "ASH",
    "ASH_ECHO",
    "ASH_PRINTF",
    "ASH_TEST",
    "FEATURE_SEAMLESS_XZ",
    "FEATURE_SWAPON_DISCARD",
    "FEATURE_SWAPON_PRI",
    "FEATURE_USE_INITTAB",
];

/// Builds what is in /mnt. musl-gcc leaves the system's headers out, those of the kernel
/// included.
const BUILD: &str = r#"
    cd /mnt
    dpkg-source --no-check -x busybox_*.dsc source
    cd source
    make allnoconfig
    for option in $OPTIONS; do
        sed -i "/^# CONFIG_$option is not set$/d" .config
        echo "CONFIG_$option=y" >>.config
    done
    sed -i '/^CONFIG_DEFAULT_MODULES_DIR=/d; /^CONFIG_DEFAULT_DEPMOD_FILE=/d' .config
    echo 'CONFIG_DEFAULT_MODULES_DIR="/lib/modules"' >>.config
    echo 'CONFIG_DEFAULT_DEPMOD_FILE="modules.dep"' >>.config
    yes '' | make oldconfig
    for option in $OPTIONS; do grep -x "CONFIG_$option=y" .config; done
    headers="-idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu"
    make -j "$(nproc)" CC=musl-gcc CONFIG_EXTRA_CFLAGS="$headers" busybox
    cp busybox /usr/lib/x86_64-linux-musl/libc.so /mnt
    cd /mnt
    rm -r source busybox_*"#;

/// busybox that was built.
pub(crate) struct Busybox {
    dir: PathBuf,
}

/// The cache's name of it.
pub(crate) fn name(versions: &Versions) -> Result<String> {
    let id = sources::hash(&[script().as_bytes()], &[])?;
    let version = versions.busybox.replace(':', "_");
    Ok(format!("busybox-musl-{version}-{id}"))
}

/// busybox, built in the root `build` if it is not there.
pub(crate) fn make(cache: &Cache, build: &Root, versions: &Versions) -> Result<Busybox> {
    let name = name(versions)?;
    if !cache.has(&name) {
        println!("to be made: busybox with musl, 1 MB on disk, 13 MB download: {name}");
    }
    let dir = cache.entry(&name, |dir| {
        let source = ("busybox", versions.busybox.as_str());
        Apt::download_source(cache, &versions.mirror, source, dir)?;
        let mut make = build.script(dir, &script());
        exec::logged("busybox", &mut make, &cache.log(&name), |_| None)
    })?;
    Ok(Busybox { dir })
}

fn script() -> String {
    let applets = APPLETS.iter().filter(|name| **name != "sh");
    let applets = applets.map(|name| name.to_uppercase());
    let options = OPTIONS.iter().map(|name| name.to_string());
    let options: Vec<_> = applets.chain(options).collect();
    format!("OPTIONS='{}'\n{BUILD}", options.join(" "))
}

impl Busybox {
    /// The program.
    pub(crate) fn program(&self) -> PathBuf {
        self.dir.join("busybox")
    }

    /// musl, which it is linked with: its loader and library in one.
    pub(crate) fn musl(&self) -> PathBuf {
        self.dir.join("libc.so")
    }
}
