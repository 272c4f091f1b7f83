// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether there is memory to spare.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::terms::PAGE_BYTES;

/// What the kernel says of its memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    total: u64,
    available: u64,
    /// In swap and not in memory, too.
    pub(super) in_swap: u64,
    /// Pages that were swapped out since boot.
    pub(super) swapped_out: u64,
}

impl Room {
    pub(super) fn read(proc: &Path) -> Result<Self> {
        let read = |name: &str| {
            let file = proc.join(name);
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        parse(&read("meminfo")?, &read("vmstat")?)
            .context("the kernel does not tell how much memory is available")
    }

    /// Whether there is less than is to be kept: by default a tenth.
    pub(super) fn is_short(&self, keep: Option<u64>) -> bool {
        self.available < keep.unwrap_or(self.total / 10)
    }
}

fn parse(meminfo: &str, vmstat: &str) -> Option<Room> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    let swapped_out = vmstat
        .lines()
        .find_map(|line| line.strip_prefix("pswpout "))?;
    let in_swap = bytes("SwapTotal:")?.saturating_sub(bytes("SwapFree:")?);
    Some(Room {
        total: bytes("MemTotal:")?,
        available: bytes("MemAvailable:")?,
        in_swap: in_swap.saturating_sub(bytes("SwapCached:")?) / PAGE_BYTES * PAGE_BYTES,
        swapped_out: swapped_out.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_the_kernel_calls_available() {
        let meminfo = "MemTotal:     1000 kB\nMemFree:   5 kB\nMemAvailable:   150 kB\n\
                       SwapCached:    8 kB\nSwapTotal:   400 kB\nSwapFree:   300 kB\n";
        let room = parse(meminfo, "pswpin 1\npswpout 77\n").unwrap();
        assert_eq!(room.in_swap, 92 << 10);
        assert_eq!(room.swapped_out, 77);
        assert!(!room.is_short(None));
        assert!(room.is_short(Some(151 << 10)));
        assert_eq!(parse("", ""), None);
    }
}
