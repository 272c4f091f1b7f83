// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sources of the guest module and the like: which files they are, what stands
//! for their contents, and copies to build in.

use crate::project;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use sha2::Digest;
use sha2::Sha256;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// What Kbuild leaves in a source directory.
const MADE: [&str; 9] = ["ko", "o", "mod", "c", "cmd", "order", "symvers", "d", "s"];

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
