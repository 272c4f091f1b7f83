// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A program that may read a disk cannot change what others read of it.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Image;

const DISK: &str = "/dev/vda";

#[test]
fn a_reader_cannot_change_what_others_read() -> Result<()> {
    let image = Image::empty(16)?;
    let mut content = vec![0; 16 << 20];
    fastrand::Rng::with_seed(1).fill(&mut content);
    std::fs::write(image.path(), content)?;

    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = filter::guest("scribble", 192, vec![Drive::new(image.path())])?;
    // What is read once is put, too.
    guest.load_module_with("precache_eager=1")?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    let checksum = || {
        guest.sh(&format!(
            "echo 3 > /proc/sys/vm/drop_caches; busybox sha256sum {DISK}"
        ))
    };
    let before = checksum()?;

    control::hold(&guest, DISK)?;
    control::attach(&guest, DISK, "precache")?;
    guest.run(&format!("load scribble {DISK} --seconds 10"))?;
    ensure!(
        control::total(&guest, "puts")? == 0,
        "a program's memory was put"
    );
    ensure!(
        checksum()? == before,
        "a reader has changed what others read"
    );
    // What the page cache has read is put and comes back, and is the disk's.
    ensure!(control::total(&guest, "puts")? > 0, "nothing was put");
    ensure!(checksum()? == before);
    ensure!(
        control::total(&guest, "hits")? > 0,
        "nothing came from the host"
    );
    control::detach(&guest, DISK)?;
    guest.power_off()?;
    daemon.stop()
}
