// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control group of this process, of version 1 or 2, whichever has the memory
//! controller: how much memory its members may have, and have.

mod made;
mod place;
mod watched;

pub use made::Made;
pub use watched::Watched;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use place::Version;

/// A control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    version: Version,
    /// Where its hierarchy is mounted, and the group there or below.
    mount: PathBuf,
    dir: PathBuf,
}

/// What the members of a group have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// All of it, in bytes, as the kernel charges it.
    pub bytes: u64,
    /// Of that, cached parts of files on disks, which the kernel may drop.
    pub cached: u64,
    /// Processes that the kernel has killed because the group was full, if it counts them.
    pub kills: Option<u64>,
}

impl Group {
    /// That of this process; `None` if no hierarchy with the memory controller is
    /// mounted.
    pub fn own() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        place::find(&mounts, &groups, |mount| {
            let file = mount.join("cgroup.controllers");
            fs::read_to_string(file).is_ok_and(|text| place::has_word(&text, "memory"))
        })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The least limit of the group and those above it, in bytes; `None` if there is
    /// none.
    pub fn limit(&self) -> Option<u64> {
        self.limit_by(&read)
    }

    fn limit_by(&self, read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
        let limits = self.levels().filter_map(|dir| self.limit_of(dir, read));
        limits.min()
    }

    /// The bytes that its members may still have until the kernel has to kill one of
    /// them: the least of the group and those above it. `None` if there is no limit.
    pub fn room(&self) -> Option<u64> {
        self.room_by(&read)
    }

    fn room_by(&self, read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
        let room = |dir: &Path| {
            let limit = self.limit_of(dir, read)?;
            let used = number(&read(&dir.join(self.version.usage()))?)?;
            Some(limit.saturating_sub(used.saturating_sub(self.cached(dir, read))))
        };
        self.levels().filter_map(room).min()
    }

    /// What its members have now.
    ///
    /// # Errors
    /// When the kernel does not say so.
    pub fn held(&self) -> io::Result<Held> {
        let file = self.dir.join(self.version.usage());
        let bytes = fs::read_to_string(file)?;
        let events = fs::read_to_string(self.dir.join(self.version.events()))?;
        Ok(Held {
            bytes: bytes.trim().parse().map_err(io::Error::other)?,
            cached: self.cached(&self.dir, &read),
            kills: value(&events, "oom_kill"),
        })
    }

    /// The group's folder and those above it. In a container, the mounted one is the
    /// last that can be seen.
    fn levels(&self) -> impl Iterator<Item = &Path> {
        let levels = self.dir.ancestors();
        levels.take_while(|dir| dir.starts_with(&self.mount))
    }

    fn limit_of(&self, dir: &Path, read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
        /// Version 1 says "no limit" with the largest number of whole pages.
        const NONE: u64 = 1 << 62;
        // "max" is no number.
        number(&read(&dir.join(self.version.limit()))?).filter(|limit| *limit < NONE)
    }

    fn cached(&self, dir: &Path, read: &impl Fn(&Path) -> Option<String>) -> u64 {
        let stat = read(&dir.join("memory.stat")).unwrap_or_default();
        let of = |name| value(&stat, name).unwrap_or_default();
        of(self.version.files()).saturating_sub(of(self.version.shared()))
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number behind `name` in lines of both.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == name).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn group(version: Version, mount: &Path, dir: &str) -> Group {
        Group {
            version,
            mount: mount.to_owned(),
            dir: mount.join(dir),
        }
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let group = group(Version::Two, root, "system.slice/tmem.service");
        assert_eq!(group.limit(), None);
        write(root, "system.slice/tmem.service/memory.max", "max\n");
        write(root, "system.slice/memory.max", "1048576\n");
        assert_eq!(group.limit(), Some(1 << 20));
        write(root, "system.slice/tmem.service/memory.max", "65536\n");
        assert_eq!(group.limit(), Some(1 << 16));
        // In a container: the mounted root is the group.
        write(root, "memory.max", "4096\n");
        assert_eq!(group.limit(), Some(4096));
    }

    #[test]
    fn room_is_what_a_level_has_left_without_caches_of_files() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let group = group(Version::Two, root, "a/b");
        assert_eq!(group.room(), None);
        write(root, "a/b/memory.max", "1000\n");
        write(root, "a/b/memory.current", "300\n");
        assert_eq!(group.room(), Some(700));
        write(root, "a/memory.max", "5000\n");
        write(root, "a/memory.current", "4900\n");
        write(root, "a/memory.stat", "anon 4000\nfile 700\nshmem 200\n");
        assert_eq!(group.room(), Some(600));
        write(root, "a/memory.current", "6000\n");
        assert_eq!(group.room(), Some(0));
    }

    #[test]
    fn version_1_has_names_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let group = group(Version::One, root, "a");
        write(root, "a/memory.limit_in_bytes", "9223372036854771712\n");
        write(root, "memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!((group.limit(), group.room()), (None, None));
        write(root, "a/memory.limit_in_bytes", "12288\n");
        write(root, "a/memory.usage_in_bytes", "8192\n");
        write(
            root,
            "a/memory.stat",
            "cache 1\nshmem 1\ntotal_cache 5000\ntotal_shmem 904\n",
        );
        write(root, "a/memory.oom_control", "under_oom 0\noom_kill 3\n");
        assert_eq!((group.limit(), group.room()), (Some(12288), Some(8192)));
        let held = group.held().unwrap();
        assert_eq!((held.bytes, held.cached, held.kills), (8192, 4096, Some(3)));
    }

    #[test]
    fn numbers_are_found_by_their_names() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(value(text, "oom_kill"), Some(3));
        assert_eq!(value(text, "oom"), None);
    }
}
