// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The memory that the host has for daemon and guests together: a control group
//! with a limit, of version 1 or 2, whichever has the memory controller.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::process::geteuid;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tmem_e2e::until;

/// For what was in the group to be gone.
const EMPTY: Duration = Duration::from_secs(30);

/// Files of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// What the group's members hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// All of it, in bytes, as the kernel charges it.
    pub(crate) bytes: u64,
    /// Of that, cached parts of files on disks, which the kernel may drop.
    pub(crate) cached: u64,
}

/// A control group; removed when this is dropped.
pub(crate) struct Budget {
    dir: PathBuf,
    version: Version,
}

impl Budget {
    /// Makes a group that may hold `bytes`, without swap.
    ///
    /// # Errors
    /// The caller is not root, or there is no memory controller.
    pub(crate) fn new(bytes: u64) -> Result<Self> {
        if !geteuid().is_root() {
            bail!(
                "the memory of guests and daemon is limited by a control group: run this as root"
            );
        }
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").context("cannot read what is mounted")?;
        let groups = fs::read_to_string("/proc/self/cgroup")
            .context("cannot read this process's control groups")?;
        let (version, own) = find(&mounts, &groups, |dir| {
            let file = dir.join("cgroup.controllers");
            fs::read_to_string(file).is_ok_and(|text| has_word(&text, "memory"))
        })
        .context(
            "no control groups with the memory controller are mounted below /sys/fs/cgroup, so \
             there is nothing to limit the host's memory with",
        )?;
        let dir = make(version, &own)?;
        let budget = Self { dir, version };
        budget.limit(bytes)?;
        Ok(budget)
    }

    fn limit(&self, bytes: u64) -> Result<()> {
        match self.version {
            Version::One => {
                self.write("memory.limit_in_bytes", bytes)?;
                // Only there where swap is counted.
                if self.dir.join("memory.memsw.limit_in_bytes").exists() {
                    self.write("memory.memsw.limit_in_bytes", bytes)?;
                }
                Ok(())
            }
            Version::Two => {
                self.write("memory.max", bytes)?;
                if self.dir.join("memory.swap.max").exists() {
                    self.write("memory.swap.max", 0)?;
                }
                Ok(())
            }
        }
    }

    /// What the members hold now.
    pub(crate) fn held(&self) -> Result<Held> {
        let (usage, all, shared) = match self.version {
            Version::One => ("memory.usage_in_bytes", "cache", "shmem"),
            Version::Two => ("memory.current", "file", "shmem"),
        };
        let bytes = self.read(usage)?.trim().parse()?;
        let stat = self.read("memory.stat")?;
        let of = |name| value(&stat, name).unwrap_or_default();
        Ok(Held {
            bytes,
            cached: of(all).saturating_sub(of(shared)),
        })
    }

    /// Processes that the kernel has killed because the group was full.
    pub(crate) fn kills(&self) -> Result<u64> {
        let text = match self.version {
            Version::One => self.read("memory.oom_control")?,
            Version::Two => self.read("memory.events")?,
        };
        value(&text, "oom_kill").context("the control group does not count who was killed")
    }

    /// A program that joins the group and then becomes the one that `words` name,
    /// followed by its own arguments: a script, at `path`. `oom_score_adj` is what
    /// the kernel goes by when somebody must be killed.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn wrap(&self, words: &[PathBuf], oom_score_adj: u32, path: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let text = format!(
            "#!/bin/sh\necho $$ >{} || exit\necho {oom_score_adj} >/proc/self/oom_score_adj\n\
             exec {} \"$@\"\n",
            quoted(&self.dir.join("cgroup.procs")),
            words.join(" ")
        );
        let cannot = || format!("cannot write {}", path.display());
        fs::write(path, text).with_context(cannot)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(cannot)
    }

    /// Removes the group, whose members must have ended.
    ///
    /// # Errors
    /// Some have not.
    pub(crate) fn end(self) -> Result<()> {
        until("the control group to be empty", EMPTY, || {
            Ok((fs::remove_dir(&self.dir).is_ok() || !self.dir.exists()).then_some(()))
        })
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.dir.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn write(&self, name: &str, value: u64) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, value.to_string())
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        // After an error members may be there still; it is empty and harmless later.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Makes a group in `own`, or in the nearest group above where version 2 lets the
/// memory controller be used below.
fn make(version: Version, own: &Path) -> Result<PathBuf> {
    let name = format!("tmem-density-{}", std::process::id());
    let above = own
        .ancestors()
        .take_while(|dir| dir.join("cgroup.procs").exists());
    for dir in above {
        let usable = match version {
            Version::One => true,
            Version::Two => fs::read_to_string(dir.join("cgroup.subtree_control"))
                .is_ok_and(|text| has_word(&text, "memory")),
        };
        let group = dir.join(&name);
        if usable && fs::create_dir(&group).is_ok() {
            return Ok(group);
        }
    }
    bail!(
        "no control group can be made in {} or above it",
        own.display()
    )
}

/// The version that has the memory controller, and this process's group in it, by
/// what is mounted and by the process's list of groups (cgroups(7)).
fn find(
    mounts: &str,
    groups: &str,
    has_memory: impl Fn(&Path) -> bool,
) -> Option<(Version, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, mount) = (place.next()?, Path::new(place.next()?));
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let version = match name {
            "cgroup" if options.split(',').any(|option| option == "memory") => Version::One,
            "cgroup2" if has_memory(mount) => Version::Two,
            _ => return None,
        };
        let own = groups.lines().find_map(|line| {
            let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
            let ours = match version {
                Version::One => controllers.split(',').any(|name| name == "memory"),
                Version::Two => controllers.is_empty(),
            };
            ours.then_some(group)
        })?;
        let below = own.strip_prefix(root.trim_end_matches('/')).unwrap_or("");
        Some((version, mount.join(below.trim_start_matches('/'))))
    })
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|other| other == word)
}

/// The number behind `name` in lines of both.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == name).then(|| value.trim().parse().ok())?
    })
}

fn quoted(word: &Path) -> String {
    format!("'{}'", word.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_has_the_controller_is_found() {
        let one = "30 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                   31 25 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n";
        let groups = "4:memory:/jobs/7\n1:cpu:/\n0::/\n";
        let found = find(one, groups, |_| false);
        let place = PathBuf::from("/sys/fs/cgroup/memory/jobs/7");
        assert_eq!(found, Some((Version::One, place)));

        let two = "30 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = find(two, "0::/user.slice/a.scope\n", |_| true);
        let place = PathBuf::from("/sys/fs/cgroup/user.slice/a.scope");
        assert_eq!(found, Some((Version::Two, place)));
        assert_eq!(find(two, "0::/\n", |_| false), None);
    }

    #[test]
    fn in_a_container_the_mount_begins_at_its_own_group() {
        let mounts = "31 25 0:28 /box/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let found = find(mounts, "4:memory:/box/1/a\n", |_| false);
        let place = PathBuf::from("/sys/fs/cgroup/memory/a");
        assert_eq!(found, Some((Version::One, place)));
    }

    #[test]
    fn numbers_are_found_by_their_names() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(value(text, "oom_kill"), Some(3));
        assert_eq!(value(text, "oom"), None);
    }

    #[test]
    fn words_reach_a_program_as_they_are() {
        assert_eq!(quoted(Path::new("/a b'c")), r"'/a b'\''c'");
    }
}
