// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest whose programs are busybox's, linked with musl, as those of small distributions
//! are. Beside them it has our agent, which only passes on what is to be done.

use crate::bed;
use crate::bed::MIB;
use crate::blk::guest;
use crate::blk::guest::DISK;
use crate::blk::guest::MEMORY;
use anyhow::Result;
use anyhow::ensure;
use std::time::Duration;
use tmem_e2e::DaemonOptions;
use tmem_e2e::GuestOptions;

/// The disk's name at the daemon.
const VM: &str = "musl0";

/// Of the program that is swapped out, in MiB.
const LOAD: u64 = 2 * MEMORY;

/// For the program, on an emulated CPU.
const DONE: Duration = Duration::from_secs(300);

/// Keeps an array of texts, each another one that takes a page at least, and says how many of
/// them are as they were left.
const PROGRAM: &str = r#"
BEGIN {
    srand(1)
    for (i = 0; i < 4096; i++) text = text sprintf("%08x", rand() * 2147483647)
    for (i = 0; i < pages; i++) kept[i] = i ":" substr(text, 1 + i * 61 % 28000, 4090)
    for (i = 0; i < pages; i++) same += (kept[i] == (i ":" substr(text, 1 + i * 61 % 28000, 4090)))
    print same
}"#;

#[test]
fn busybox_of_musl_swaps_to_it_and_discards() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        vms: Vec::new(),
        disks: vec![VM],
        swap_size: "1G",
        ..DaemonOptions::default()
    })?;
    let options = GuestOptions {
        name: "swap".into(),
        vhost_disks: vec![daemon.socket(VM)],
        ..GuestOptions::default()
    };
    let guest = guest::boot(Some("musl"), options)?;
    // Nothing else could run it.
    guest.run("/lib/ld-musl-x86_64.so.1 /bin/busybox ls /")?;
    ensure!(
        guest
            .run("ls /lib")?
            .split_whitespace()
            .eq(["ld-musl-x86_64.so.1", "modules"])
    );
    guest::set_rotational(&guest, false)?;
    guest.run(&format!("swapon -d {DISK}"))?;
    guest.says("SSDsc", bed::PROMPT)?;

    let number = |name: &str| daemon.stats()?.number(&format!("/vms/{VM}/{name}"));
    let pages = LOAD * MIB;
    guest.write("/tmp/program", PROGRAM)?;
    let said = guest.sh_within(&format!("awk -v pages={pages} -f /tmp/program"), DONE)?;
    ensure!(said.trim() == pages.to_string(), "of {pages} pages: {said}");
    let kept = number("device/blocks_written/kept")?;
    ensure!(kept > MEMORY * MIB, "{kept} blocks were written");
    let read = number("device/blocks_read/hit")?;
    ensure!(read > MEMORY * MIB, "{read} blocks were read");
    // The program has ended; the kernel says which clusters are free.
    bed::settles(&daemon, &format!("/vms/{VM}/persistent_pages"), |stored| {
        stored < pages / 2
    })?;

    // Whatever is written over the header, it can be swap again.
    guest.run(&format!("swapoff {DISK}"))?;
    guest.run(&format!("mkswap {DISK}"))?;
    guest.run(&format!("swapon -d {DISK}"))?;
    guest.run(&format!("swapoff {DISK}"))?;
    guest.power_off()?;
    daemon.stop()
}
