// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The memory that the control group of this process may have.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted, unless somebody has put them elsewhere.
const ROOT: &str = "/sys/fs/cgroup";

/// The least limit of the process's control group and those above it, in bytes;
/// `None` if there is none, or it cannot be known.
pub fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_in(Path::new(ROOT), &groups)
}

/// The same with the groups below `root` and the text of `/proc/PID/cgroup`
/// (cgroups(7)): lines `ID:CONTROLLERS:PATH`; those of version 2 have no
/// controllers.
fn limit_in(root: &Path, groups: &str) -> Option<u64> {
    groups
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let path = path.trim_start_matches('/');
            if controllers.is_empty() {
                least(root, path, "memory.max")
            } else if controllers.split(',').any(|name| name == "memory") {
                least(&root.join("memory"), path, "memory.limit_in_bytes")
            } else {
                None
            }
        })
        .min()
}

/// The least number in the files `name` of the group at `path` and of those
/// above it. In a container the path may be one that is not seen from inside;
/// the mounted root is its group then.
fn least(root: &Path, path: &str, name: &str) -> Option<u64> {
    let mut dir: PathBuf = root.join(path);
    let mut least = None;
    while dir.starts_with(root) {
        let text = fs::read_to_string(dir.join(name)).unwrap_or_default();
        // "max" is no number.
        if let Ok(limit) = text.trim().parse::<u64>() {
            least = Some(least.map_or(limit, |least: u64| least.min(limit)));
        }
        if !dir.pop() {
            break;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "system.slice/tmem.service/memory.max", "max\n");
        write(root, "system.slice/memory.max", "1048576\n");
        assert_eq!(
            limit_in(root, "0::/system.slice/tmem.service\n"),
            Some(1 << 20)
        );
        write(root, "system.slice/tmem.service/memory.max", "65536\n");
        assert_eq!(
            limit_in(root, "0::/system.slice/tmem.service\n"),
            Some(1 << 16)
        );
        assert_eq!(limit_in(root, "0::/\n"), None);
        // In a container: the mounted root is the group.
        write(root, "memory.max", "4096\n");
        assert_eq!(limit_in(root, "0::/not/seen/here\n"), Some(4096));
    }

    #[test]
    fn version_1_has_a_hierarchy_for_memory() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "memory/a/memory.limit_in_bytes", "12288\n");
        write(
            root,
            "memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        let groups = "5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n";
        assert_eq!(limit_in(root, groups), Some(12288));
        for nonsense in ["", "4:memory", "x", "4:cpu:/a\n"] {
            assert_eq!(limit_in(root, nonsense), None);
        }
    }
}
