// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Builds the guest module in the build root, as one would on the guest: first
//! the package of Rust metadata that Debian's headers lack, then the module.

use crate::assets;
use crate::cache::Cache;
use crate::exec;
use crate::project;
use crate::roots::Root;
use crate::setup;
use crate::versions::Versions;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use sha2::Digest;
use sha2::Sha256;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Makes the package of Rust metadata.
const MAKE_RUST_HEADERS: &str = "guest/scripts/make-rust-headers";

/// Where the build root notes which metadata package it has.
const INSTALLED: &str = "var/lib/tmem-rust-headers";

/// Raised when a module is built or installed in another way.
const REVISION: u32 = 2;

/// What Kbuild leaves in a source directory.
const MADE: [&str; 9] = ["ko", "o", "mod", "c", "cmd", "order", "symvers", "d", "s"];

/// `cargo xtask guest`.
pub(crate) fn command() -> Result<()> {
    let setup = setup::ensure(false)?;
    let module = module(&setup.cache, &setup.build, &setup.versions)?;
    let tmemctl = assets::tmemctl()?;
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
    let headers = rust_headers(cache, build, versions)?;
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
             make -C /mnt/source KVER={kernel} DESTDIR=/mnt/installed install; \
             mv /mnt/source/virtio_tmem.ko /mnt; rm -r /mnt/source",
            kernel = versions.kernel
        );
        let mut make = build.script(dir, &script);
        exec::logged("guest module", &mut make, &cache.log(&name), |_| None)
    })?;
    Ok(Module { dir })
}

/// The cache's name of the package of Rust metadata.
pub(crate) fn rust_headers_name(versions: &Versions) -> Result<String> {
    let id = rust_headers_id(versions)?;
    Ok(format!("rust-headers-{}-{id}", versions.kernel))
}

/// Stands for the script that makes the metadata, and for what it makes it of.
fn rust_headers_id(versions: &Versions) -> Result<String> {
    hash(
        &[
            versions.kernel.as_bytes(),
            versions.kernel_package.as_bytes(),
        ],
        &[project::root().join(MAKE_RUST_HEADERS)],
    )
}

/// Makes linux-headers-rust and installs it in the build root; gives back the
/// hash that stands for it.
pub(crate) fn rust_headers(cache: &Cache, build: &Root, versions: &Versions) -> Result<String> {
    let script = project::root().join(MAKE_RUST_HEADERS);
    let id = rust_headers_id(versions)?;
    let name = rust_headers_name(versions)?;
    let package = cache.entry(&name, |dir| {
        println!(
            "making linux-headers-rust-{} (once; 1 to 3 minutes, 40 MB)",
            versions.kernel
        );
        fs::copy(&script, dir.join("make-rust-headers"))
            .with_context(|| format!("cannot copy {}", script.display()))?;
        // Its work is below /mnt, too: an interrupted run leaves nothing in the
        // build root.
        let run = format!(
            "mkdir /mnt/work; TMPDIR=/mnt/work /mnt/make-rust-headers --kernel {} --output /mnt; \
             rmdir /mnt/work",
            versions.kernel
        );
        exec::logged(
            "linux-headers-rust",
            &mut build.script(dir, &run),
            &cache.log(&name),
            |line| {
                line.starts_with(['[', ' '])
                    .then(|| line.trim().to_string())
            },
        )
    })?;
    let installed = build.file(INSTALLED);
    if fs::read_to_string(&installed).ok().as_deref() != Some(&id) {
        let install =
            format!("dpkg --install /mnt/linux-headers-rust-*.deb; printf {id} >/{INSTALLED}");
        exec::logged(
            "linux-headers-rust",
            &mut build.script(&package, &install),
            &cache.log("install-rust-headers"),
            |_| None,
        )?;
    }
    Ok(id)
}

/// The package in the directory of metadata `dir`.
pub(crate) fn package(dir: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("{} has no package", dir.display()))
}

/// All files of `dir` that are not made by Kbuild, sorted.
pub(crate) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        let entries =
            fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        for entry in entries {
            let path = entry.context("cannot read a directory")?.path();
            if path.is_dir() {
                left.push(path);
            } else if is_source(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let made = match extension.as_ref() {
        // The module may have C of its own; only this much of it is made.
        "c" => name.ends_with(".mod.c"),
        other => MADE.contains(&other),
    };
    !made && !name.starts_with('.') && !name.contains("_generated.")
}

/// Copies `files` below `from` to `to`; links become what they point to.
pub(crate) fn copy_tree(from: &Path, files: &[PathBuf], to: &Path) -> Result<()> {
    for file in files {
        let copy = to.join(file.strip_prefix(from).unwrap_or(file));
        if let Some(dir) = copy.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        fs::copy(file, &copy).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}

/// Half of the SHA-256 of `words`, and of the names and contents of `files`.
pub(crate) fn hash(words: &[&[u8]], files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    for word in words {
        add(word);
    }
    for file in files {
        let name = file.strip_prefix(project::root()).unwrap_or(file);
        add(name.to_string_lossy().as_bytes());
        add(&fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let digest = hash.finalize();
    if digest.is_empty() {
        bail!("SHA-256 gave nothing");
    }
    Ok(digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_from_what_kbuild_makes() {
        for source in ["Kbuild", "virtio_tmem.rs", "sys/shim.c", "scripts/make"] {
            assert!(is_source(Path::new(source)), "{source}");
        }
        for made in [
            "virtio_tmem.ko",
            "virtio_tmem.mod.c",
            "Module.symvers",
            "modules.order",
            ".virtio_tmem.o.cmd",
            "sys/bindings_generated.rs",
            "sys/layouts_generated.h",
            "sys/layouts.s",
        ] {
            assert!(!is_source(Path::new(made)), "{made}");
        }
    }

    #[test]
    fn a_changed_file_changes_the_hash() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.rs");
        fs::write(&file, "one").unwrap();
        let before = hash(&[b"6.1"], std::slice::from_ref(&file)).unwrap();
        assert_eq!(
            hash(&[b"6.1"], std::slice::from_ref(&file)).unwrap(),
            before
        );
        assert_ne!(
            hash(&[b"6.2"], std::slice::from_ref(&file)).unwrap(),
            before
        );
        fs::write(&file, "two").unwrap();
        assert_ne!(hash(&[b"6.1"], &[file]).unwrap(), before);
    }

    #[test]
    fn links_are_copied_as_what_they_point_to() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::write(dir.path().join("wire.rs"), "wire").unwrap();
        std::os::unix::fs::symlink("../wire.rs", from.join("wire.rs")).unwrap();
        let to = dir.path().join("to");
        copy_tree(&from, &files(&from).unwrap(), &to).unwrap();
        let copy = to.join("wire.rs");
        assert!(!copy.is_symlink());
        assert_eq!(fs::read_to_string(copy).unwrap(), "wire");
    }
}
