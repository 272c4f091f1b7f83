// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Debian's source of the guest's kernel, built as a program of User-Mode Linux:
//! one that checks itself, and one that runs at this machine's speed. And the
//! module built for it.

use crate::cache::Cache;
use crate::exec;
use crate::project;
use crate::roots::Root;
use crate::sources;
use crate::versions::Versions;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Raised when the kernel is built in another way.
const REVISION: u32 = 1;

/// Makes the kernel; KASAN and Rust go together with clang only.
const MAKE: &str = "make -C /mnt/source ARCH=um LLVM=1 O=/mnt/build";

/// With one CPU there is nobody who could interrupt it: no system call then
/// wherever interrupts are switched off and on.
const ONE_CPU: &str = r"
    cd /mnt/source/arch/um/os-Linux
    sed -i '/^static void __local_ipi_set/,/^}/s/^\tsigemptyset/\tif (uml_ncpus == 1)\n\t\treturn;\n&/' smp.c
    grep -q 'uml_ncpus == 1' smp.c";

/// Clang puts large data of User-Mode Linux into sections that the linker script does not
/// name, so lockdep takes locks there for ones on a stack, and ends itself at boot.
const LARGE_DATA: &str = r"
    cd /mnt/source/include/asm-generic
    sed -i 's/^#define DATA_MAIN .*/& .ldata .ldata.*/' vmlinux.lds.h
    sed -i 's/^#define RODATA_MAIN .*/& .lrodata .lrodata.*/' vmlinux.lds.h
    sed -i 's/^#define BSS_MAIN .*/& .lbss .lbss.*/' vmlinux.lds.h
    test $(grep -c 'MAIN.* .l[a-z]* .l[a-z]*' vmlinux.lds.h) -ge 3";

/// The kernel's zeroes begin at an alignment that the linker script does not know of. kmemleak
/// reads them from their symbol on, and so before their begin, where nothing is mapped.
const ZEROES: &str = r"
    cd /mnt/source/arch/um/kernel
    sed -i 's/^  __bss_start = \.;/  . = ALIGN(0x10000);\n&/' uml.lds.S
    grep -q 'ALIGN(0x10000)' uml.lds.S";

/// A thread that becomes a CPU begins on a stack of the C library's, whose end is not where traces look
/// for it: they would read on into what lies behind. So traces are of the kernel's stacks only.
const STACKS: &str = r"
    cd /mnt/source/arch/um/kernel
    sed -i -e 's/^#include <asm.stacktrace.h>/&\n#include <linux\/sched\/task_stack.h>\n#include <linux\/smp-internal.h>/' \
        -e 's/^void dump_trace(/static bool is_known_stack(unsigned long sp)\n{\n\tunsigned long irq = (unsigned long)cpu_irqstacks;\n\n\treturn object_is_on_stack((void *)sp) || sp - irq < sizeof(cpu_irqstacks);\n}\n\n&/' \
        -e 's/^\tframe = (struct stack_frame \*)bp;/\tif (tsk == current \&\& !is_known_stack((unsigned long)sp))\n\t\treturn;\n&/' \
        stacktrace.c
    test $(grep -c 'is_known_stack\|smp-internal' stacktrace.c) -eq 3";

/// What a signal handler in a program's process returns to must find nothing but the signal's frame on the
/// stack. Where functions have frame pointers, as lockdep wants them, clang has it push one: with
/// `seccomp=on`, without which there is one CPU only, each program dies as it starts.
const RESTORER: &str = r"
    cd /mnt/source/arch/um/kernel/skas
    sed -i 's/^CFLAGS_stub.o := .*/& -fomit-frame-pointer/' Makefile
    grep -q '^CFLAGS_stub.o.* -fomit-frame-pointer' Makefile";

/// What is mended in the kernel's source.
const MENDED: [&str; 5] = [ONE_CPU, LARGE_DATA, ZEROES, STACKS, RESTORER];

/// What the module is built with, of the kernel's source.
const KEPT: &str = "arch include rust scripts Makefile Kbuild Kconfig";

/// The name of a file with options, where it is built.
const CONFIG: &str = "kernel.config";

/// What a kernel is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Lockdep, KASAN and others.
    Checkers,
    /// What a page costs: nothing that watches.
    Native,
}

impl Flavour {
    const ALL: [Self; 2] = [Self::Checkers, Self::Native];

    fn word(self) -> &'static str {
        match self {
            Self::Checkers => "checkers",
            Self::Native => "native",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Checkers => "a kernel with lockdep and KASAN, 1 GB on disk",
            Self::Native => "a kernel to measure with, 0.4 GB on disk",
        }
    }

    /// The options that are to be set.
    fn config(self) -> PathBuf {
        project::root().join(match self {
            Self::Checkers => "tests/checkers/kernel.config",
            Self::Native => "bench/native/kernel.config",
        })
    }

    /// The cache's name of the kernel.
    fn name(self, versions: &Versions) -> Result<String> {
        let id = sources::hash(&MENDED.map(str::as_bytes), &[self.config()])?;
        let (word, package) = (self.word(), &versions.kernel_package);
        Ok(format!("{word}-kernel-{package}-{id}-{REVISION}"))
    }
}

/// A kernel that was built.
pub(crate) struct Kernel {
    flavour: Flavour,
    dir: PathBuf,
}

/// The cache's names of all of them.
pub(crate) fn names(versions: &Versions) -> Result<Vec<String>> {
    let mut names = Flavour::ALL.iter();
    names.try_fold(Vec::new(), |mut all, flavour| {
        all.push(flavour.name(versions)?);
        Ok(all)
    })
}

/// The kernel, built if it is not there.
pub(crate) fn make(
    cache: &Cache,
    root: &Root,
    versions: &Versions,
    flavour: Flavour,
) -> Result<Kernel> {
    let config = flavour.config();
    let name = flavour.name(versions)?;
    if !cache.has(&name) {
        println!("to be made, once: {}: {name}", flavour.description());
    }
    let archive = format!("/usr/src/{}.tar.xz", versions.kernel_source);
    let dir = cache.entry(&name, |dir| {
        fs::copy(&config, dir.join(CONFIG))
            .with_context(|| format!("cannot copy {}", config.display()))?;
        let mended = MENDED.join("; ");
        let script = format!(
            "echo unpacking; mkdir /mnt/source /mnt/build; \
             tar -xf {archive} -C /mnt/source --strip-components=1; \
             echo configuring; {MAKE} defconfig; {mended}; cd /mnt/source; \
             scripts/kconfig/merge_config.sh -m -O /mnt/build /mnt/build/.config /mnt/{CONFIG}; \
             {MAKE} olddefconfig; \
             echo compiling; {MAKE} -j $(nproc) linux modules; \
             echo tidying; find /mnt/build -name '*.[oa]' -delete; \
             mkdir /mnt/kept; mv {KEPT} /mnt/kept; cd /mnt; rm -r source; mv kept source"
        );
        let mut build = root.script(dir, &script);
        exec::logged("kernel", &mut build, &cache.log(&name), progress())?;
        let made = dir.join("build/.config");
        check(
            &fs::read_to_string(&config).context("cannot read the wanted options")?,
            &fs::read_to_string(made).context("cannot read the kernel's options")?,
        )
        .with_context(|| format!("{} asks for too much", config.display()))
    })?;
    Ok(Kernel { flavour, dir })
}

/// Every hundredth file that is compiled is worth showing.
fn progress() -> impl Fn(&str) -> Option<String> {
    let files = std::cell::Cell::new(0u32);
    move |line| {
        if ["unpacking", "configuring", "compiling", "tidying"].contains(&line) {
            return Some(line.to_string());
        }
        if !line.starts_with("  ") {
            return None;
        }
        files.set(files.get() + 1);
        let count = files.get();
        count.is_multiple_of(100).then(|| format!("{count} files"))
    }
}

/// Fails unless all that is wanted is so: the kernel's tools drop silently
/// what needs something else.
fn check(wanted: &str, made: &str) -> Result<()> {
    let made: std::collections::HashSet<&str> = made.lines().collect();
    let missing: Vec<&str> = wanted
        .lines()
        .filter(|line| line.starts_with("CONFIG_") && !made.contains(line))
        .collect();
    if !missing.is_empty() {
        bail!(
            "the kernel cannot be built with {}: something that they need is missing",
            missing.join(", "),
        );
    }
    Ok(())
}

impl Kernel {
    /// The kernel: a program of this machine.
    pub(crate) fn program(&self) -> PathBuf {
        self.dir.join("build/linux")
    }

    /// Builds the module of the tree `sources`; `name` tells it from others.
    pub(crate) fn module(
        &self,
        cache: &Cache,
        root: &Root,
        sources: &Path,
        name: &str,
    ) -> Result<PathBuf> {
        println!("building virtio_tmem.ko for it, of {}", sources.display());
        let place = self.dir.join(name);
        if place.exists() {
            fs::remove_dir_all(&place).context("cannot remove the last module")?;
        }
        sources::copy_tree(sources, &sources::files(sources)?, &place)?;
        let script = format!("{MAKE} M=/mnt/{name} modules");
        let mut make = root.script(&self.dir, &script);
        let log = format!("{}-{name}", self.flavour.word());
        exec::logged("module", &mut make, &cache.log(&log), |_| None)?;
        Ok(place.join("virtio_tmem.ko"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_were_dropped_are_named() {
        let made = "CONFIG_KASAN=y\n# CONFIG_PROVE_LOCKING is not set\n";
        check("# why\nCONFIG_KASAN=y\n", made).unwrap();
        let error = check("CONFIG_KASAN=y\nCONFIG_PROVE_LOCKING=y\n", made).unwrap_err();
        assert!(error.to_string().contains("PROVE_LOCKING"), "{error}");
    }
}
