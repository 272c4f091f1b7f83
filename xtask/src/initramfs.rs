// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guests' initramfs. The small one: the agent as process 1, tmemctl, Debian's busybox
//! and modprobe, the module where `make modules_install` puts it, and programs
//! and text of Debian's /usr/lib as real content to fill memory with.

pub(crate) mod stock;

use crate::archive::Archive;
use crate::archive::CHARACTER_DEVICE;
use crate::archive::DIRECTORY;
use crate::archive::FILE;
use crate::archive::PROGRAM;
use crate::guest::Module;
use crate::modules;
use crate::programs::InGuest;
use crate::roots::Root;
use crate::setup::Setup;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Files of the build root that the guest has at the same place.
const FILES: &[&str] = &[
    "usr/bin/busybox",
    "usr/lib64/ld-linux-x86-64.so.2",
    // Real content only; the guest's program needs much of it to fill memory.
    "usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "usr/lib/x86_64-linux-gnu/libm.so.6",
    "usr/lib/x86_64-linux-gnu/libbfd-*-system.so",
];

/// Names that kmod and busybox go by.
const KMOD: &[&str] = &["modprobe", "rmmod", "lsmod", "modinfo"];
const BUSYBOX: &[&str] = &[
    "cat", "dmesg", "kill", "ls", "mkdir", "mkswap", "sh", "sleep", "swapoff",
];

/// Old places of what /usr has.
const USR_LINKS: &[&str] = &["bin", "sbin", "lib", "lib64"];

/// Where the agent is in a system that has a process 1 of its own.
const AGENT: &str = "usr/bin/tmem-agent";

/// The agent under the name that the kernel's messages should show.
const WORKLOAD: &str = "usr/bin/workload";

/// Where `make install` puts tmemctl.
const TMEMCTL: &str = "usr/sbin/tmemctl";

/// The program that uses a guest's disks.
pub(crate) struct User {
    /// What it is called there.
    pub(crate) name: &'static str,
    /// Linked statically.
    pub(crate) program: PathBuf,
    /// What it starts, in the root of tools.
    pub(crate) tools: &'static [&'static str],
    /// Where Python is, if it starts that.
    pub(crate) python: Option<Root>,
    /// Modules of the stock kernel's that the guest has beside.
    pub(crate) modules: &'static [&'static str],
}

/// Of a Debian system, what a guest has no use for, or gets from the kernel.
const NOT_IN_GUEST: &[&str] = &[
    "boot",
    "dev",
    // That of the machine where it was made.
    "etc/hostname",
    "proc",
    "run",
    "sys",
    "usr/share/zoneinfo",
    "var/cache/apt",
    "var/lib/apt/lists",
];

/// What the test adds to a Debian system.
const AGENT_UNIT: (&str, &str) = (
    "etc/systemd/system/tmem-agent.service",
    "[Unit]\nDescription=Agent of the end-to-end tests\n\n\
     [Service]\nExecStart=/usr/bin/tmem-agent\n",
);

/// What tells the module of QEMU's generic device, which knows no id 60.
const TEST_DEVICE: (&str, &str) = (
    "etc/modprobe.d/tmem-test.conf",
    "options virtio_tmem test_device_id=13\n",
);

/// What a Debian system for people has.
const CONSOLE_FILES: &[(&str, &str)] = &[(
    "etc/systemd/system/serial-getty@ttyS0.service.d/root.conf",
    "[Service]\nExecStart=\n\
         ExecStart=-/usr/sbin/agetty --autologin root --noclear --keep-baud 115200 %I vt220\n",
)];

/// Writes the small initramfs to `to`: the agent is process 1.
pub(crate) fn write(setup: &Setup, module: &Module, programs: &InGuest, to: &Path) -> Result<()> {
    let mut archive = small(setup, programs)?;
    let work = to.with_extension("work");
    modules::add(&mut archive, setup, module, &[modules::STOCK], &work)?;
    archive.finish(to)
}

/// Writes the initramfs of a guest with a program of ours: the small one with more
/// modules, and what the program starts, of `tools`.
pub(crate) fn write_with_user(
    setup: &Setup,
    module: &Module,
    programs: &InGuest,
    (user, tools): (&User, &Root),
    to: &Path,
) -> Result<()> {
    let mut archive = small(setup, programs)?;
    archive.file(&format!("usr/bin/{}", user.name), PROGRAM, &user.program)?;
    for tool in user.tools {
        archive.program(tools, tool)?;
    }
    if let Some(root) = &user.python {
        add_python(&mut archive, root)?;
    }
    let work = to.with_extension("work");
    let lists = [modules::STOCK, user.modules];
    modules::add(&mut archive, setup, module, &lists, &work)?;
    archive.finish(to)
}

/// Adds Debian's Python with what of its library is in the same place.
fn add_python(archive: &mut Archive, root: &Root) -> Result<()> {
    let program = matching(root, "usr/bin/python3.*")?;
    archive.program(root, &program)?;
    let name = program.rsplit('/').next().unwrap_or(&program);
    archive.link("usr/bin/python3", name)?;
    archive.tree(root.dir(), &format!("usr/lib/{name}"), &|_| false)
}

/// What both have, but for the kernel's modules.
fn small(setup: &Setup, programs: &InGuest) -> Result<Archive> {
    let build = &setup.build;
    let mut archive = Archive::default();
    archive.add("dev/console", CHARACTER_DEVICE, Some((5, 1)), &[])?;
    for name in USR_LINKS {
        archive.link(name, &format!("usr/{name}"))?;
    }
    archive.add("tmp", DIRECTORY, None, &[])?;
    archive.file("init", PROGRAM, &programs.agent)?;
    archive.file("usr/bin/tmemctl", PROGRAM, &programs.tmemctl)?;
    archive.link(WORKLOAD, "/init")?;
    // Its place on a disk.
    archive.link("usr/sbin/init", "/init")?;
    for pattern in FILES {
        let path = matching(build, pattern)?;
        archive.file(&path, PROGRAM, &build.file(&path))?;
    }
    archive.program(build, "usr/bin/kmod")?;
    // Busybox's knows no priorities.
    archive.program(build, "usr/sbin/swapon")?;
    for name in KMOD {
        archive.link(&format!("usr/sbin/{name}"), "../bin/kmod")?;
    }
    for name in BUSYBOX {
        archive.link(&format!("usr/bin/{name}"), "busybox")?;
    }
    Ok(archive)
}

/// Writes a Debian system to `to`, with what `make install` in `guest/`
/// installs. The agent is a service of it.
pub(crate) fn write_debian(
    setup: &Setup,
    module: &Module,
    debian: &Root,
    programs: &InGuest,
    to: &Path,
) -> Result<()> {
    let mut archive = Archive::default();
    archive.link("init", "usr/lib/systemd/systemd")?;
    archive.file(TMEMCTL, PROGRAM, &programs.tmemctl)?;
    add_agent(&mut archive, programs)?;
    let (path, text) = TEST_DEVICE;
    archive.add(path, FILE, None, text.as_bytes())?;
    finish_debian(archive, setup, module, debian, to)
}

/// Writes a Debian system to `to` on whose console root is logged in, with
/// what `make install` in `guest/` installs.
pub(crate) fn write_console(
    setup: &Setup,
    module: &Module,
    debian: &Root,
    tmemctl: &Path,
    to: &Path,
) -> Result<()> {
    let mut archive = Archive::default();
    archive.file(TMEMCTL, PROGRAM, tmemctl)?;
    for (path, text) in CONSOLE_FILES {
        archive.add(path, FILE, None, text.as_bytes())?;
    }
    finish_debian(archive, setup, module, debian, to)
}

/// Adds the system itself, the module, and what is installed with it.
fn finish_debian(
    mut archive: Archive,
    setup: &Setup,
    module: &Module,
    debian: &Root,
    to: &Path,
) -> Result<()> {
    add_debian(&mut archive, debian)?;
    // The module's directory comes below; the rest as it was installed.
    archive.tree(&module.installed(), "usr", &|_| false)?;
    let work = to.with_extension("work");
    modules::add(&mut archive, setup, module, &[modules::STOCK], &work)?;
    archive.finish(to)
}

/// Adds the agent as a service of systemd's.
fn add_agent(archive: &mut Archive, programs: &InGuest) -> Result<()> {
    archive.file(AGENT, PROGRAM, &programs.agent)?;
    archive.link(WORKLOAD, "tmem-agent")?;
    let (path, text) = AGENT_UNIT;
    archive.add(path, FILE, None, text.as_bytes())?;
    archive.link(
        "etc/systemd/system/multi-user.target.wants/tmem-agent.service",
        "/etc/systemd/system/tmem-agent.service",
    )
}

/// Adds the Debian system `debian`, as at its first boot.
fn add_debian(archive: &mut Archive, debian: &Root) -> Result<()> {
    // Whole and empty: the machine's id is made at its first boot.
    archive.add("etc/machine-id", FILE, None, b"")?;
    archive.add("dev/console", CHARACTER_DEVICE, Some((5, 1)), &[])?;
    archive.tree(debian.dir(), "", &|path| NOT_IN_GUEST.contains(&path))
}

/// The one file of `build` that `pattern`, with at most one `*` in its last
/// part, stands for.
pub(crate) fn matching(build: &Root, pattern: &str) -> Result<String> {
    let (dir, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let Some((head, tail)) = name.split_once('*') else {
        return Ok(pattern.to_string());
    };
    let entries =
        fs::read_dir(build.file(dir)).with_context(|| format!("the build root has no {dir}"))?;
    for entry in entries {
        let found = entry.context("cannot read a directory")?.file_name();
        let found = found.to_string_lossy();
        if found.starts_with(head) && found.ends_with(tail) {
            return Ok(format!("{dir}/{found}"));
        }
    }
    anyhow::bail!("the build root has no {pattern}")
}
