// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The cpio archive that a kernel unpacks into its first file system.

use crate::exec;
use crate::roots::Root;
use anyhow::Context;
use anyhow::Result;
use cpio::newc;
use std::ffi::OsStr;
use std::fs;
use std::fs::Permissions;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Mode of a directory.
pub(crate) const DIRECTORY: u32 = 0o040_755;
/// Mode of a plain file.
pub(crate) const FILE: u32 = 0o100_644;
/// Mode of a program.
pub(crate) const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
/// Mode of a character device.
pub(crate) const CHARACTER_DEVICE: u32 = 0o020_600;

/// The kind of file in a mode.
const KIND: u32 = 0o170_000;
const KIND_DIRECTORY: u32 = 0o040_000;
const KIND_LINK: u32 = 0o120_000;
const KIND_FILE: u32 = 0o100_000;

/// A cpio archive in the making.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: std::collections::HashSet<String>,
}

impl Archive {
    pub(crate) fn file(&mut self, name: &str, mode: u32, from: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.add(name, mode, None, &bytes)
    }

    /// Adds a program of `build` with the libraries that it is linked to.
    pub(crate) fn program(&mut self, build: &Root, path: &str) -> Result<()> {
        self.file(path, PROGRAM, &build.file(path))?;
        let (loader, arguments) = build.loaded(path);
        let list = exec::output(Command::new(loader).arg("--list").args(arguments))?;
        for library in libraries(&list, build.dir()) {
            self.file(library, PROGRAM, &build.file(library))?;
        }
        Ok(())
    }

    pub(crate) fn link(&mut self, name: &str, target: &str) -> Result<()> {
        self.add(name, LINK, None, target.as_bytes())
    }

    /// Adds everything below `top`/`name`, but what `left_out` names by its
    /// path below `top`. All belongs to root.
    pub(crate) fn tree(
        &mut self,
        top: &Path,
        name: &str,
        left_out: &dyn Fn(&str) -> bool,
    ) -> Result<()> {
        let dir = top.join(name);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let entry = entry.context("cannot read a directory")?.file_name();
            let entry = entry.to_string_lossy();
            names.push(match name {
                "" => entry.into_owned(),
                _ => format!("{name}/{entry}"),
            });
        }
        names.sort();
        for name in names.iter().filter(|name| !left_out(name)) {
            let path = top.join(name);
            let data = fs::symlink_metadata(&path)
                .with_context(|| format!("cannot stat {}", path.display()))?;
            if data.is_dir() {
                if self.directories.insert(name.clone()) {
                    self.add(name, data.mode(), None, &[])?;
                }
                match self.tree(top, name, left_out) {
                    Err(error) if is_private(&error) => {}
                    other => other?,
                }
            } else if data.is_symlink() {
                let target = fs::read_link(&path).context("cannot read a link")?;
                self.link(name, &target.to_string_lossy())?;
            } else if data.is_file() {
                match self.file(name, data.mode(), &path) {
                    Err(error) if is_private(&error) => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    pub(crate) fn add(
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

    /// Writes the archive to `to`, after the archives in the files `before`:
    /// the kernel unpacks them one after the other.
    pub(crate) fn finish_after(mut self, before: &[&Path], to: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        for file in before {
            let archive =
                fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            bytes.extend(archive);
            // An archive begins at a multiple of four bytes.
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes.append(&mut self.bytes);
        self.bytes = bytes;
        self.finish(to)
    }

    pub(crate) fn finish(mut self, to: &Path) -> Result<()> {
        newc::trailer(&mut self.bytes).context("cannot end the archive")?;
        let unfinished = to.with_extension("tmp");
        fs::write(&unfinished, &self.bytes)
            .and_then(|()| fs::rename(&unfinished, to))
            .with_context(|| format!("cannot write {}", to.display()))
    }
}

/// Unpacks the archive in the file `from` into the directory `to`, all but
/// devices.
pub(crate) fn unpack(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let damaged = || format!("cannot unpack {}", from.display());
    let mut left = bytes.as_slice();
    loop {
        let mut entry = newc::Reader::new(left).with_context(damaged)?;
        if entry.entry().is_trailer() {
            return Ok(());
        }
        let path = to.join(entry.entry().name());
        let mode = entry.entry().mode();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).with_context(damaged)?;
        let made = match mode & KIND {
            KIND_DIRECTORY => fs::create_dir_all(&path),
            KIND_LINK => symlink(OsStr::from_bytes(&data), &path),
            KIND_FILE => fs::write(&path, &data)
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode & 0o777))),
            _ => Ok(()),
        };
        made.with_context(|| format!("cannot make {}", path.display()))?;
        left = entry.finish().with_context(damaged)?;
    }
}

/// Whether only root may read it, as keys and passwords: when this program runs
/// for an ordinary user, the guest does without.
fn is_private(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
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
        assert_eq!(
            entries(&fs::read(to).unwrap()),
            [
                ("a".to_string(), DIRECTORY),
                ("a/b".to_string(), DIRECTORY),
                ("a/b/c".to_string(), FILE),
                ("a/b/d".to_string(), LINK),
            ]
        );
    }

    #[test]
    fn a_second_archive_begins_where_the_kernel_looks_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (first, both) = (dir.path().join("first"), dir.path().join("both"));
        let mut archive = Archive::default();
        archive.add("a", FILE, None, b"one").unwrap();
        archive.finish(&first).unwrap();
        let length = fs::read(&first).unwrap().len().next_multiple_of(4);
        let mut archive = Archive::default();
        archive.add("b", FILE, None, b"two").unwrap();
        archive.finish_after(&[&first], &both).unwrap();
        let bytes = fs::read(both).unwrap();
        assert_eq!(entries(&bytes), [("a".to_string(), FILE)]);
        assert_eq!(entries(&bytes[length..]), [("b".to_string(), FILE)]);
    }

    #[test]
    fn what_was_archived_is_unpacked_again() {
        let dir = tempfile::tempdir().unwrap();
        let (archived, to) = (dir.path().join("a.cpio"), dir.path().join("to"));
        fs::create_dir(&to).unwrap();
        let mut archive = Archive::default();
        archive
            .add("dev/console", CHARACTER_DEVICE, Some((5, 1)), &[])
            .unwrap();
        archive.add("bin/tool", PROGRAM, None, b"code").unwrap();
        archive.link("bin/other", "tool").unwrap();
        archive.finish(&archived).unwrap();
        unpack(&archived, &to).unwrap();
        assert!(to.join("dev").is_dir());
        assert!(!to.join("dev/console").exists());
        assert_eq!(fs::read(to.join("bin/other")).unwrap(), b"code");
        let mode = fs::metadata(to.join("bin/tool")).unwrap().mode();
        assert_eq!(mode, PROGRAM);
    }

    fn entries(mut left: &[u8]) -> Vec<(String, u32)> {
        let mut names = Vec::new();
        loop {
            let entry = newc::Reader::new(left).unwrap();
            if entry.entry().is_trailer() {
                return names;
            }
            names.push((entry.entry().name().to_string(), entry.entry().mode()));
            left = entry.finish().unwrap();
        }
    }
}
