// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest's initramfs: the agent as process 1, Debian's busybox and
//! modprobe, the module where `make modules_install` puts it, and programs
//! and text of Debian's /usr/lib as real content to fill memory with.

use crate::exec;
use crate::roots::Root;
use crate::versions::Versions;
use anyhow::Context;
use anyhow::Result;
use cpio::newc;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Files of the build root that the guest has at the same place.
const FILES: &[&str] = &[
    "usr/bin/busybox",
    "usr/lib64/ld-linux-x86-64.so.2",
    // Real content only; the guest's program needs much of it to fill memory.
    "usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "usr/lib/x86_64-linux-gnu/libm.so.6",
    "usr/lib/x86_64-linux-gnu/libbfd-*-system.so",
];

/// Files of the kernel's directory below /usr/lib/modules.
const KERNEL_FILES: &[&str] = &[
    "config",
    "modules.builtin",
    "modules.builtin.modinfo",
    "modules.order",
    "modules.symbols",
];

/// Names that kmod and busybox go by.
const KMOD: &[&str] = &["modprobe", "rmmod", "lsmod", "modinfo"];
const BUSYBOX: &[&str] = &[
    "cat", "dmesg", "kill", "ls", "mkswap", "sh", "sleep", "swapoff", "swapon",
];

/// Old places of what /usr has.
const USR_LINKS: &[&str] = &["bin", "sbin", "lib", "lib64"];

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// Writes the initramfs to `to`.
pub(crate) fn write(
    build: &Root,
    versions: &Versions,
    module: &Path,
    agent: &Path,
    to: &Path,
) -> Result<()> {
    let work = to.with_extension("work");
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let modules = format!("usr/lib/modules/{}", versions.kernel);
    let tree = work.join(&modules);
    // depmod looks below lib/modules.
    let lib = work.join("lib");
    if !lib.is_symlink() {
        std::os::unix::fs::symlink("usr/lib", &lib).context("cannot make a link")?;
    }
    fs::create_dir_all(tree.join("updates")).context("cannot make the tree of modules")?;
    for name in KERNEL_FILES {
        copy(&build.file(&format!("{modules}/{name}")), &tree.join(name))?;
    }
    copy(module, &tree.join("updates/virtio_tmem.ko"))?;
    let mut depmod = build.program("usr/sbin/depmod");
    depmod.arg("-b").arg(&work).arg(&versions.kernel);
    exec::output(&mut depmod)?;

    let mut archive = Archive::default();
    archive.add("dev/console", CHARACTER_DEVICE, Some((5, 1)), &[])?;
    for name in USR_LINKS {
        archive.link(name, &format!("usr/{name}"))?;
    }
    archive.file("init", PROGRAM, agent)?;
    archive.link("usr/bin/workload", "/init")?;
    for pattern in FILES {
        let path = matching(build, pattern)?;
        archive.file(&path, PROGRAM, &build.file(&path))?;
    }
    archive.program(build, "usr/bin/kmod")?;
    for name in KMOD {
        archive.link(&format!("usr/sbin/{name}"), "../bin/kmod")?;
    }
    for name in BUSYBOX {
        archive.link(&format!("usr/bin/{name}"), "busybox")?;
    }
    archive.tree(&work, &modules)?;
    archive.finish(to)
}

/// The one file of `build` that `pattern`, with at most one `*` in its last
/// part, stands for.
fn matching(build: &Root, pattern: &str) -> Result<String> {
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

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// A cpio archive in the making.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: std::collections::HashSet<String>,
}

impl Archive {
    fn file(&mut self, name: &str, mode: u32, from: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.add(name, mode, None, &bytes)
    }

    /// Adds a program of `build` with the libraries that it is linked to.
    fn program(&mut self, build: &Root, path: &str) -> Result<()> {
        self.file(path, PROGRAM, &build.file(path))?;
        let (loader, arguments) = build.loaded(path);
        let list = exec::output(Command::new(loader).arg("--list").args(arguments))?;
        for library in libraries(&list, build.dir()) {
            self.file(library, PROGRAM, &build.file(library))?;
        }
        Ok(())
    }

    fn link(&mut self, name: &str, target: &str) -> Result<()> {
        self.add(name, LINK, None, target.as_bytes())
    }

    /// Adds everything below `top`/`name`.
    fn tree(&mut self, top: &Path, name: &str) -> Result<()> {
        let dir = top.join(name);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let entry = entry.context("cannot read a directory")?;
            names.push(format!("{name}/{}", entry.file_name().to_string_lossy()));
        }
        names.sort();
        for name in names {
            let path = top.join(&name);
            if path.is_dir() {
                self.tree(top, &name)?;
            } else {
                self.file(&name, FILE, &path)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        name: &str,
        mode: u32,
        device: Option<(u32, u32)>,
        data: &[u8],
    ) -> Result<()> {
        // The kernel makes no directories by itself.
        if let Some((parent, _)) = name.rsplit_once('/')
            && !self.directories.contains(parent)
        {
            self.directories.insert(parent.to_string());
            self.add(parent, DIRECTORY, None, &[])?;
        }
        self.entries += 1;
        let mut entry = newc::Builder::new(name).ino(self.entries).mode(mode);
        if let Some((major, minor)) = device {
            entry = entry.rdev_major(major).rdev_minor(minor);
        }
        let size = u32::try_from(data.len()).with_context(|| format!("{name} is too large"))?;
        let mut entry = entry.write(&mut self.bytes, size);
        entry
            .write_all(data)
            .and_then(|()| entry.finish().map(|_| ()))
            .with_context(|| format!("cannot archive {name}"))
    }

    fn finish(mut self, to: &Path) -> Result<()> {
        newc::trailer(&mut self.bytes).context("cannot end the archive")?;
        let unfinished = to.with_extension("tmp");
        fs::write(&unfinished, &self.bytes)
            .and_then(|()| fs::rename(&unfinished, to))
            .with_context(|| format!("cannot write {}", to.display()))
    }
}

/// The libraries below `root` that the loader lists, by their path in it.
fn libraries<'a>(list: &'a str, root: &Path) -> Vec<&'a str> {
    list.lines()
        .filter_map(|line| {
            let path = line.split_once(" => ")?.1.split_once(" (0x")?.0;
            Path::new(path).strip_prefix(root).ok()?.to_str()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_the_root_are_taken_from_the_loaders_list() {
        let list = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibz.so.1 => /root/usr/lib/libz.so.1 (0x00007f12)\n\
                    \t/lib64/ld.so => /other/ld.so (0x00007f34)\n";
        assert_eq!(libraries(list, Path::new("/root")), ["usr/lib/libz.so.1"]);
    }

    #[test]
    fn parents_come_before_their_children_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("out.cpio");
        let mut archive = Archive::default();
        archive.add("a/b/c", FILE, None, b"text").unwrap();
        archive.link("a/b/d", "c").unwrap();
        archive.finish(&to).unwrap();
        let bytes = fs::read(to).unwrap();
        let mut names = Vec::new();
        let mut left = bytes.as_slice();
        loop {
            let entry = newc::Reader::new(left).unwrap();
            if entry.entry().is_trailer() {
                break;
            }
            names.push((entry.entry().name().to_string(), entry.entry().mode()));
            left = entry.finish().unwrap();
        }
        assert_eq!(
            names,
            [
                ("a".to_string(), DIRECTORY),
                ("a/b".to_string(), DIRECTORY),
                ("a/b/c".to_string(), FILE),
                ("a/b/d".to_string(), LINK),
            ]
        );
    }
}
