// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the machine uses its disks for.

mod btrfs;
mod disks;
mod mounts;
mod order;
mod plan;
mod swaps;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::disk;
use btrfs::Member;
pub(crate) use disks::{Disks, Kernel};
use mounts::Mount;
pub(crate) use plan::{CONFIDENTIAL, Candidate, Verdict};
use swaps::Swap;

/// All mounts and swap areas.
#[derive(Debug, Default)]
pub(crate) struct System {
    mounts: Vec<Mount>,
    members: Vec<Member>,
    swaps: Vec<Swap>,
}

impl System {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub(crate) fn read() -> Result<Self> {
        let text = |path: &str| {
            // Names need not be UTF-8; they are shown only.
            fs::read(path)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .with_context(|| format!("cannot read {path}"))
        };
        Ok(Self {
            mounts: mounts::parse(&text("/proc/self/mountinfo")?),
            members: btrfs::members(&Path::new(disk::SYS).join("fs/btrfs")),
            swaps: swaps::parse(&text("/proc/swaps")?, |path| disk::at(path).ok()),
        })
    }
}

/// Undoes the kernel's escapes for blanks in names: a backslash and three octal
/// digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = (*first == b'\\')
            .then(|| after.split_at_checked(3))
            .flatten()
            .and_then(|(digits, after)| {
                let digits = std::str::from_utf8(digits).ok()?;
                Some((u8::from_str_radix(digits, 8).ok()?, after))
            });
        let (byte, after) = escape.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("/mnt/a\\040b\\134c"), "/mnt/a b\\c");
        assert_eq!(unescape("/mnt/\\303\\244"), "/mnt/ä");
        for text in ["", "/", "\\", "a\\04", "a\\999", "a\\xyz"] {
            assert_eq!(unescape(text), text);
        }
    }
}
