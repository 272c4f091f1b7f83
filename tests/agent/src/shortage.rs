// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Takes the memory away of a guest whose device is gone.
//!
//! This cannot be a shell's work: a page of the shell may have been swapped out, and then the shell waits
//! for the device, too. This program has all it needs in memory before the device goes: itself, its files
//! open, and in the kernel's caches the few bytes that a read or a write takes.

use crate::init;
use anyhow::Context;
use anyhow::Result;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tmem_agent::protocol::MEMORY_IS_SHORT;
use tmem_agent::protocol::SHORTAGE_READY;

/// There while the device is.
const DEVICE: &str = "/sys/bus/virtio/devices/virtio0";

/// Counters of the module: how many pages the kernel could not swap out because the device is gone, and how
/// many of the module's reserve were freed.
const POSTPONED: &str = "/sys/kernel/debug/tmem/postponed";
const RELIEVED: &str = "/sys/kernel/debug/tmem/relief_pages";

/// Bytes that this program keeps in memory, most of what the guest has: the less there is to be swapped out,
/// the sooner the kernel finds that it cannot.
const HELD: usize = 64 << 20;

/// What the kernel is to keep free, in KiB.
const KEPT_FREE: &str = "/proc/sys/vm/min_free_kbytes";

/// More than all memory that the guest has.
const TOO_MUCH: &str = "262144";

/// More than any of the numbers here has.
const DIGITS: usize = 24;

/// Waits until the device is gone, has the kernel keep more memory free than there is, and ends when the
/// module has freed some of its reserve.
pub(crate) fn make() -> Result<()> {
    init::stay_in_memory();
    // Each page has something else in it than zeros, for which there would be one page.
    let held = vec![1_u8; HELD];
    let usual = std::fs::read_to_string(KEPT_FREE).context("cannot read what is kept free")?;
    let open = |path| File::open(path).with_context(|| format!("cannot open {path}"));
    let change = |path| {
        let mut options = File::options();
        options
            .write(true)
            .open(path)
            .with_context(|| format!("cannot write {path}"))
    };
    let (postponed, relieved) = (open(POSTPONED)?, open(RELIEVED)?);
    let (kept_free, log) = (change(KEPT_FREE)?, change("/dev/kmsg")?);
    let [ready, short] = [SHORTAGE_READY, MEMORY_IS_SHORT].map(|line| format!("{line}\n"));
    // Everything is gone through once while there is memory.
    let before = (number(&postponed)?, number(&relieved)?);
    kept_free.write_all_at(usual.trim().as_bytes(), 0)?;
    log.write_all_at(ready.as_bytes(), 0)?;
    while Path::new(DEVICE).exists() && number(&postponed)? == before.0 {}
    kept_free.write_all_at(TOO_MUCH.as_bytes(), 0)?;
    log.write_all_at(short.as_bytes(), 0)?;
    while number(&relieved)? == before.1 {}
    std::hint::black_box(held);
    kept_free
        .write_all_at(usual.trim().as_bytes(), 0)
        .context("cannot keep free what is usual")
}

/// What a counter says now. Takes no memory.
fn number(file: &File) -> Result<u64> {
    let mut text = [0; DIGITS];
    let length = file.read_at(&mut text, 0)?;
    let digits = text.get(..length).unwrap_or_default();
    let digits = std::str::from_utf8(digits).context("a counter is no text")?;
    digits.trim().parse().context("a counter is no number")
}
