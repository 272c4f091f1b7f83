// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A spill area on a device that is slow, fails, or goes away. Devices that do so on request need
//! device-mapper, so the daemon runs in a guest, with a driver in user space.

use crate::bed;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::Image;

/// The device below the area, in MiB.
const SIZE: u64 = 22;

/// For all of it, on emulated CPUs that others may have, too. What waits in vain says so before.
const TIME: Duration = Duration::from_secs(1800);

/// Programs in an archive, which the guest has as a disk.
fn archive(programs: &[&Path], dir: &Path) -> Result<PathBuf> {
    let archive = dir.join("programs.tar");
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(&archive);
    for program in programs {
        tar.arg("-C")
            .arg(program.parent().context("a program is nowhere")?)
            .arg(program.file_name().context("a program has no name")?);
    }
    let status = tar.status().context("cannot start tar")?;
    ensure!(status.success(), "tar failed");
    Ok(archive)
}

#[test]
fn no_page_is_wrong_or_lost_but_where_it_cannot_be_read() -> Result<()> {
    let assets = bed::assets()?;
    let made = assets.area()?;
    let disk = Image::empty(SIZE)?;
    let dir = tempfile::tempdir()?;
    let programs = archive(&[&made.daemon, &made.program], dir.path())?;
    let guest = Guest::boot(
        &assets,
        GuestOptions {
            name: "failing-area".into(),
            memory_mib: 384,
            drives: vec![Drive::new(disk.path()), Drive::new(programs)],
            storage: true,
            ..GuestOptions::default()
        },
    )?;
    for module in ["virtio_blk", "dm_mod", "dm_delay", "dm_flakey"] {
        guest.run(&format!("modprobe {module}"))?;
    }
    guest.sh("busybox tar -xf /dev/vdb -C /run")?;
    let said = guest.sh_within(
        "/run/tmem-failing-area --disk /dev/vda --daemon /run/vhost-user-tmem --dir /run/area 2>&1",
        TIME,
    )?;
    println!("{said}");
    guest.power_off()
}
