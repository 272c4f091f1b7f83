// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Against files that stand for the kernel's.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use super::*;

const PAGE: u64 = crate::terms::PAGE_BYTES;

/// A machine with a process 42 that has two mappings, of which the pages `out` are in
/// swap, and one without memory.
fn machine(out: &[u64], available_kib: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let proc = dir.path();
    let write = |name: &str, text: &str| fs::write(proc.join(name), text).unwrap();
    for name in ["42", "43", "self"] {
        fs::create_dir(proc.join(name)).unwrap();
    }
    write(
        "meminfo",
        &format!(
            "MemTotal: 100000 kB\nMemAvailable: {available_kib} kB\nSwapCached: 0 kB\n\
             SwapTotal: 1000 kB\nSwapFree: 500 kB\n"
        ),
    );
    write("vmstat", "pswpout 1\n");
    write(
        "42/maps",
        &format!(
            "{:x}-{:x} rw-p 0 00:00 0\n{:x}-{:x} r--p 0 00:00 0 [vvar]\n",
            PAGE,
            700 * PAGE,
            1000 * PAGE,
            1010 * PAGE
        ),
    );
    let pagemap = File::create(proc.join("42/pagemap")).unwrap();
    pagemap.set_len(1010 * 8).unwrap();
    for page in out {
        let entry = 1u64 << 62;
        pagemap
            .write_all_at(&entry.to_ne_bytes(), page * 8)
            .unwrap();
    }
    let memory = File::create(proc.join("42/mem")).unwrap();
    // What is beyond cannot be read.
    memory.set_len(1005 * PAGE).unwrap();
    dir
}

fn pulled(dir: &TempDir, most: u64, keep: Option<u64>) -> u64 {
    let mut pace = Pace::new(u64::MAX, |_| ());
    pull(dir.path(), most, keep, &mut pace).unwrap().bytes / PAGE
}

#[test]
fn what_is_in_swap_is_read_and_nothing_else() {
    let out = [1, 2, 512, 513, 699, 1000, 1004, 1006];
    let dir = machine(&out, 50_000);
    // The last cannot be read.
    assert_eq!(pulled(&dir, u64::MAX, None), 7);
    assert_eq!(pulled(&dir, 3 * PAGE, None), 3);
    assert_eq!(pulled(&machine(&[], 50_000), u64::MAX, None), 0);
}

#[test]
fn without_room_nothing_is_brought_back() {
    let dir = machine(&[1, 2, 3], 9_000);
    assert_eq!(pulled(&dir, u64::MAX, None), 0);
    assert_eq!(pulled(&dir, u64::MAX, Some(1 << 20)), 3);
    assert_eq!(pulled(&dir, u64::MAX, Some(1 << 30)), 0);
}

#[test]
fn a_guest_has_room_when_nothing_was_swapped_out_for_some_rounds() {
    let mut quiet = Quiet::default();
    let rounds = [7, 7, 7, 7, 7, 8, 8, 8, 8];
    let long_enough = rounds.map(|pages| quiet.is_long_enough(pages));
    assert_eq!(
        long_enough,
        [false, false, false, true, true, false, false, false, true]
    );
}
