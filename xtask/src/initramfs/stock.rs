// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The initramfs of guests with a stable release's kernel and nothing of ours but the
//! agent: the small one, a Debian system, and one whose programs are linked with musl.

use super::AGENT;
use super::USR_LINKS;
use super::add_agent;
use super::add_debian;
use super::small;
use crate::archive::Archive;
use crate::archive::CHARACTER_DEVICE;
use crate::archive::DIRECTORY;
use crate::archive::FILE;
use crate::archive::PROGRAM;
use crate::busybox;
use crate::busybox::Busybox;
use crate::modules;
use crate::programs::InGuest;
use crate::roots::Root;
use crate::setup::Setup;
use anyhow::Result;
use std::path::Path;

/// What makes the file system of a small guest, and checks it.
const FILE_SYSTEM: &[&str] = &["usr/sbin/mke2fs", "usr/sbin/e2fsck"];

/// What busybox's init does: it has the agent as the only service.
const INITTAB: &str = "\
::sysinit:/bin/mount -t devtmpfs none /dev
::sysinit:/bin/mount -t proc none /proc
::sysinit:/bin/mount -t sysfs none /sys
::once:/usr/bin/tmem-agent
";

/// Where programs that are linked with musl look for it.
const MUSL: &str = "usr/lib/ld-musl-x86_64.so.1";

/// A kernel that was only unpacked: the root that it is in, and what `uname -r` says.
pub(crate) type Kernel<'a> = (&'a Root, &'a str);

/// Writes the initramfs of a small guest with what makes and uses file systems.
pub(crate) fn write(
    setup: &Setup,
    (programs, load): (&InGuest, &Path),
    tools: &Root,
    kernel: Kernel<'_>,
    to: &Path,
) -> Result<()> {
    let mut archive = small(setup, programs)?;
    archive.file("usr/bin/load", PROGRAM, load)?;
    for tool in FILE_SYSTEM {
        archive.program(tools, tool)?;
    }
    finish(archive, setup, kernel, to)
}

/// Writes the Debian system `debian` to `to`; the agent is a service of it.
pub(crate) fn write_system(
    setup: &Setup,
    programs: &InGuest,
    debian: &Root,
    kernel: Kernel<'_>,
    to: &Path,
) -> Result<()> {
    let mut archive = Archive::default();
    archive.link("init", "usr/lib/systemd/systemd")?;
    add_agent(&mut archive, programs)?;
    add_debian(&mut archive, debian)?;
    finish(archive, setup, kernel, to)
}

/// Writes the initramfs of a guest whose programs are those of `busybox`, but for the agent.
pub(crate) fn write_musl(
    setup: &Setup,
    programs: &InGuest,
    busybox: &Busybox,
    kernel: Kernel<'_>,
    to: &Path,
) -> Result<()> {
    let mut archive = Archive::default();
    archive.add("dev/console", CHARACTER_DEVICE, Some((5, 1)), &[])?;
    for name in USR_LINKS {
        archive.link(name, &format!("usr/{name}"))?;
    }
    for place in ["proc", "sys", "tmp"] {
        archive.add(place, DIRECTORY, None, &[])?;
    }
    archive.file("usr/bin/busybox", PROGRAM, &busybox.program())?;
    archive.file(MUSL, PROGRAM, &busybox.musl())?;
    archive.link("init", "usr/bin/busybox")?;
    for name in busybox::APPLETS {
        archive.link(&format!("usr/bin/{name}"), "busybox")?;
    }
    archive.add("etc/inittab", FILE, None, INITTAB.as_bytes())?;
    archive.file(AGENT, PROGRAM, &programs.agent)?;
    finish(archive, setup, kernel, to)
}

/// Adds the kernel's modules, and writes the archive to `to`.
fn finish(mut archive: Archive, setup: &Setup, kernel: Kernel<'_>, to: &Path) -> Result<()> {
    modules::add_stock(&mut archive, setup, kernel, &to.with_extension("work"))?;
    archive.finish(to)
}
