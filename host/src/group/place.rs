// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a process's control group is, and what its files are called (cgroups(7)).

use std::path::{Component, Path};

use super::Group;

/// A version of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

impl Version {
    pub(super) fn limit(self) -> &'static str {
        match self {
            Self::One => "memory.limit_in_bytes",
            Self::Two => "memory.max",
        }
    }

    pub(super) fn usage(self) -> &'static str {
        match self {
            Self::One => "memory.usage_in_bytes",
            Self::Two => "memory.current",
        }
    }

    pub(super) fn events(self) -> &'static str {
        match self {
            Self::One => "memory.oom_control",
            Self::Two => "memory.events",
        }
    }

    /// In `memory.stat`: parts of files in memory, of the group and those below it.
    pub(super) fn files(self) -> &'static str {
        match self {
            Self::One => "total_cache",
            Self::Two => "file",
        }
    }

    /// Of these, those that are not on disks.
    pub(super) fn shared(self) -> &'static str {
        match self {
            Self::One => "total_shmem",
            Self::Two => "shmem",
        }
    }
}

/// The group in the version that has the memory controller, by what is mounted and by
/// the process's list of groups. `has_memory` looks at where version 2 is mounted.
pub(super) fn find(
    mounts: &str,
    groups: &str,
    has_memory: impl Fn(&Path) -> bool,
) -> Option<Group> {
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
        // In a container, the group may be outside of what is mounted.
        let below = own.strip_prefix(root.trim_end_matches('/')).unwrap_or("");
        let below = Path::new(below.trim_start_matches('/'));
        let is_below = below
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        Some(Group {
            version,
            mount: mount.to_owned(),
            dir: if is_below {
                mount.join(below)
            } else {
                mount.to_owned()
            },
        })
    })
}

pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|other| other == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mounts: &str, groups: &str, has_memory: bool) -> Option<Group> {
        find(mounts, groups, |_| has_memory)
    }

    fn is(version: Version, mount: &str, dir: &str) -> Option<Group> {
        Some(Group {
            version,
            mount: mount.into(),
            dir: dir.into(),
        })
    }

    const ONE: &str = "30 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                       31 25 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n";
    const TWO: &str = "30 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_version_that_has_the_controller_is_found() {
        let mount = "/sys/fs/cgroup/memory";
        let group = "/sys/fs/cgroup/memory/jobs/7";
        let groups = "4:memory:/jobs/7\n1:cpu:/\n0::/\n";
        assert_eq!(found(ONE, groups, false), is(Version::One, mount, group));

        let mount = "/sys/fs/cgroup";
        let group = "/sys/fs/cgroup/user.slice/a.scope";
        let groups = "0::/user.slice/a.scope\n";
        assert_eq!(found(TWO, groups, true), is(Version::Two, mount, group));
        assert_eq!(found(TWO, "0::/\n", true), is(Version::Two, mount, mount));
    }

    #[test]
    fn in_a_container_the_mount_begins_at_its_own_group() {
        let mounts = "31 25 0:28 /box/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let mount = "/sys/fs/cgroup/memory";
        let group = "/sys/fs/cgroup/memory/a";
        for (own, dir) in [
            ("/box/1/a", group),
            ("/box/1", mount),
            ("/elsewhere", mount),
            ("/box/1/../2", mount),
        ] {
            let groups = format!("4:memory:{own}\n");
            assert_eq!(found(mounts, &groups, false), is(Version::One, mount, dir));
        }
    }

    #[test]
    fn where_there_is_no_controller_nothing_is_found() {
        assert_eq!(found(TWO, "0::/\n", false), None);
        for nonsense in ["", "4:memory", "x", "4:cpu:/a\n"] {
            assert_eq!(found(ONE, nonsense, false), None);
        }
        for nonsense in ["", "-", " - ", "1 2 3 4 5 - cgroup\n"] {
            assert_eq!(found(nonsense, "4:memory:/\n", true), None);
        }
    }
}
