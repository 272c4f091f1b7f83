// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A control group whose files are open, for threads that may not open any.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Group;

/// A control group that is looked at again and again.
#[derive(Debug)]
pub struct Watched {
    group: Group,
    files: BTreeMap<PathBuf, File>,
}

impl Watched {
    /// Opens the files of the group and of those above it.
    pub fn new(group: Group) -> Self {
        let version = group.version;
        let names = [version.limit(), version.usage(), "memory.stat"];
        let paths = group
            .levels()
            .flat_map(|dir| names.map(|name| dir.join(name)));
        let files = paths.filter_map(|path| {
            let file = File::open(&path).ok()?;
            Some((path, file))
        });
        Self {
            files: files.collect(),
            group,
        }
    }

    /// As [`Group::limit`].
    pub fn limit(&self) -> Option<u64> {
        self.group.limit_by(&|path| self.read(path))
    }

    /// As [`Group::room`].
    pub fn room(&self) -> Option<u64> {
        self.group.room_by(&|path| self.read(path))
    }

    /// What the file has now. The kernel makes it anew for who reads from its beginning.
    fn read(&self, path: &Path) -> Option<String> {
        let file = self.files.get(path)?;
        let mut bytes = Vec::new();
        loop {
            let mut piece = [0; 4096];
            match file.read_at(&mut piece, bytes.len() as u64) {
                Ok(0) => break,
                Ok(read) => bytes.extend(piece.get(..read)?),
                Err(_) => return None,
            }
        }
        String::from_utf8(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::place::Version;

    #[test]
    fn what_is_open_is_what_is_there_now() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        write("memory.max", "1000\n");
        write("memory.current", "300\n");
        let watched = Watched::new(Group {
            version: Version::Two,
            mount: root.path().to_owned(),
            dir: root.path().to_owned(),
        });
        assert_eq!((watched.limit(), watched.room()), (Some(1000), Some(700)));
        write("memory.max", "max\n");
        assert_eq!((watched.limit(), watched.room()), (None, None));
        write("memory.max", &format!("{}500\n", "0".repeat(5000)));
        assert_eq!((watched.limit(), watched.room()), (Some(500), Some(200)));
    }
}
