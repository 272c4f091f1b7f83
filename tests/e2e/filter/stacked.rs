// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disks above disks: device mapper, which takes bios, and a loop device above
//! that, which takes requests; with a filter on any of them.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Result;
use anyhow::ensure;
use fastrand::Rng;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Image;

/// From the bottom to the top, where the load is.
const DISKS: [&str; 3] = ["/dev/vda", "/dev/dm-0", "/dev/loop0"];

/// Size of the lowest in MiB.
const SIZE: u64 = 24;

/// For how long filters come and go.
const TIME: Duration = Duration::from_secs(30);

#[test]
fn disks_above_disks_have_filters() -> Result<()> {
    let seed = filter::seed();
    println!("{}={seed}", filter::SEED);
    let mut random = Rng::with_seed(seed.into());
    let image = Image::empty(SIZE)?;
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = filter::guest("stacked", 288, vec![Drive::new(image.path())])?;
    guest.load_module_with("precache_eager=1 settle_seconds=0")?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    let sectors = SIZE << 11;
    for line in [
        "modprobe dm_mod",
        "modprobe loop",
        &format!("dmsetup create --noudevsync stacked --table \"0 {sectors} linear /dev/vda 0\""),
        "busybox losetup /dev/loop0 /dev/dm-0",
    ] {
        guest.sh(line)?;
    }
    let mut load = guest.load(&format!("blocks /dev/loop0 --seed {seed} --seconds 36000"))?;
    let mut attached = [false; DISKS.len()];
    let (mut puts, start) = (0, Instant::now());
    while start.elapsed() < TIME {
        let one = random.usize(0..DISKS.len());
        let (Some(disk), Some(is_attached)) = (DISKS.get(one), attached.get_mut(one)) else {
            continue;
        };
        if *is_attached {
            puts += control::total(&guest, "puts")?;
            control::detach(&guest, disk)?;
        } else {
            control::attach(&guest, disk, "precache")?;
        }
        *is_attached = !*is_attached;
        guest.healthy()?;
        load.goes_on()?;
        // The load goes on for a random while; nothing is waited for.
        std::thread::sleep(Duration::from_millis(random.u64(0..1500)));
    }
    for (disk, is_attached) in DISKS.iter().zip(attached) {
        if is_attached {
            puts += control::total(&guest, "puts")?;
            control::detach(&guest, disk)?;
        }
    }
    ensure!(puts > 0, "the host was given nothing");
    load.ends()?;
    load.ended()?;
    guest.sh("busybox losetup -d /dev/loop0; dmsetup remove --noudevsync stacked")?;
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()?;
    daemon.stop()
}
