// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A root with Debian's C compiler, make and busybox, and little else: a small
//! guest changes into it and builds something.

use crate::archive::Archive;
use crate::archive::PROGRAM;
use crate::initramfs;
use crate::roots::Root;
use anyhow::Result;
use std::path::Path;

/// Where the compiler is, by its version: VERSION below.
const COMPILERS: &str = "usr/libexec/gcc/x86_64-linux-gnu";

/// Programs and libraries that bring what they are linked to.
const PROGRAMS: &[&str] = &[
    "usr/bin/make",
    "usr/bin/x86_64-linux-gnu-as",
    "usr/bin/x86_64-linux-gnu-gcc-VERSION",
    "usr/bin/x86_64-linux-gnu-ld.bfd",
    "usr/libexec/gcc/x86_64-linux-gnu/VERSION/cc1",
    "usr/libexec/gcc/x86_64-linux-gnu/VERSION/collect2",
    "usr/libexec/gcc/x86_64-linux-gnu/VERSION/liblto_plugin.so",
];

/// Files, at the same place.
const FILES: &[&str] = &[
    "usr/bin/busybox",
    "usr/lib64/ld-linux-x86-64.so.2",
    // What programs are linked to.
    "usr/lib/x86_64-linux-gnu/Scrt1.o",
    "usr/lib/x86_64-linux-gnu/crti.o",
    "usr/lib/x86_64-linux-gnu/crtn.o",
    "usr/lib/x86_64-linux-gnu/libc.so",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libc_nonshared.a",
    "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
    "usr/lib/x86_64-linux-gnu/libpthread.a",
    "usr/lib/gcc/x86_64-linux-gnu/VERSION/crtbeginS.o",
    "usr/lib/gcc/x86_64-linux-gnu/VERSION/crtendS.o",
    "usr/lib/gcc/x86_64-linux-gnu/VERSION/libgcc.a",
    "usr/lib/gcc/x86_64-linux-gnu/VERSION/libgcc_s.so",
];

/// Trees of headers.
const TREES: &[&str] = &[
    "usr/include",
    "usr/lib/gcc/x86_64-linux-gnu/VERSION/include",
    "usr/lib/linux/uapi/x86",
];

/// Headers of another language.
const LEFT_OUT: &[&str] = &["usr/include/c++"];

/// Names in /usr/bin, and what they stand for.
const LINKS: &[(&str, &str)] = &[
    ("as", "x86_64-linux-gnu-as"),
    ("cc", "x86_64-linux-gnu-gcc-VERSION"),
    ("gcc", "x86_64-linux-gnu-gcc-VERSION"),
    ("ld", "x86_64-linux-gnu-ld.bfd"),
];

/// Names that busybox goes by.
const BUSYBOX: &[&str] = &[
    "ar", "cat", "cmp", "cp", "echo", "grep", "gzip", "ln", "mkdir", "mv", "printf", "rm", "sed",
    "sh", "sync", "tail", "tar", "test", "uname",
];

/// Old places of what /usr has.
const USR_LINKS: &[&str] = &["bin", "lib", "lib64", "sbin"];

/// Writes it to the archive `to`.
pub(super) fn write(build: &Root, to: &Path) -> Result<()> {
    let compiler = initramfs::matching(build, &format!("{COMPILERS}/*"))?;
    let version = compiler.rsplit('/').next().unwrap_or_default();
    let path = |pattern: &str| pattern.replace("VERSION", version);
    let mut archive = Archive::default();
    for name in USR_LINKS {
        archive.link(name, &format!("usr/{name}"))?;
    }
    for program in PROGRAMS {
        archive.program(build, &path(program))?;
    }
    for file in FILES {
        archive.file(&path(file), PROGRAM, &build.file(&path(file)))?;
    }
    for tree in TREES {
        archive.tree(build.dir(), &path(tree), &|path| LEFT_OUT.contains(&path))?;
    }
    for (name, target) in LINKS {
        archive.link(&format!("usr/bin/{name}"), &path(target))?;
    }
    for name in BUSYBOX {
        archive.link(&format!("usr/bin/{name}"), "busybox")?;
    }
    archive.finish(to)
}
