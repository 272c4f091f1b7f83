// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The power is cut: the journal is replayed, the file system is whole, and
//! everything is there of which a program was told so.
//!
//! A log has every request that the disk was given. From it, what is on the
//! disk is made as a power cut would leave it: what was flushed, and anything
//! of what was not. So one run is good for several power cuts. What programs
//! were told is noted on the same disk, in a partition of its own.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use fastrand::Rng;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Filesystem;
use tmem_e2e::Guest;
use tmem_e2e::Image;
use tmem_e2e::PowerCut;
use tmem_e2e::WriteLog;

/// Size of the file system in MiB, and of the partition with what is noted.
const SIZE: u64 = 512;
const NOTES: u64 = 15;

/// Power cuts on each disk, the one that really happened included.
const CUTS: u32 = 3;

/// The earliest and the latest end of the run, after the load began, in
/// milliseconds.
const TIME: std::ops::Range<u64> = 12_000..20_000;

/// Notes that there must be at the last cut, for the test to say anything.
const NOTED: u64 = 20;

/// Requests that a bad disk forgets.
const FORGOTTEN: usize = 120;

/// How such a disk is found out: something is missing, the file system is not
/// whole, or so damaged that it cannot be mounted.
const DAMAGE: [&str; 3] = ["\"Wrong\"", "is damaged", "busybox mount"];

/// RAM of a guest in MiB.
const MEMORY: u64 = 320;

/// A disk that was under load when the power went.
struct Victim {
    filesystem: Filesystem,
    /// As it was at first.
    before: Image,
    log: WriteLog,
    seed: u32,
    _dir: TempDir,
}

/// What a run is like.
struct Plan {
    name: &'static str,
    filesystems: Vec<Filesystem>,
    filter: bool,
}

/// Has load on a disk for each file system, and cuts the power.
fn run(plan: &Plan, seed: u32) -> Result<Vec<Victim>> {
    let assets = bed::assets()?;
    let mut random = Rng::with_seed(seed.into());
    let dir = || tempfile::Builder::new().prefix("tmem-power-").tempdir();
    let mut disks = Vec::new();
    for filesystem in &plan.filesystems {
        let mut image = Image::partitioned(SIZE + NOTES + 1, SIZE)?;
        image.format(&assets, *filesystem)?;
        disks.push((*filesystem, image.copy()?, image, dir()?));
    }
    let drives = disks.iter().map(|(_, _, image, dir)| Drive {
        log: Some(dir.path().join("log")),
        ..Drive::new(image.path())
    });
    let drives: Vec<Drive> = drives.collect();
    for log in drives.iter().filter_map(|drive| drive.log.as_ref()) {
        std::fs::write(log, b"")?;
    }
    let mut guest = filter::guest(plan.name, MEMORY, drives)?;
    let daemon = bed::daemon(DaemonOptions {
        quota: "16M",
        ..DaemonOptions::default()
    })?;
    if plan.filter {
        guest.load_module_with("precache_eager=1")?;
        guest.plug(&daemon.socket("vm0"))?;
        guest.disk_appears()?;
    }
    let mut loads = Vec::new();
    let mut devices = Vec::new();
    for (letter, (filesystem, ..)) in ('a'..).zip(&disks) {
        let (device, name) = (format!("/dev/vd{letter}"), filesystem.name());
        mount(&guest, *filesystem, &format!("{device}1"), name)?;
        loads.push(guest.load(&format!(
            "journal /mnt/{name}/load {device}2 --seed {seed} --seconds 36000"
        ))?);
        devices.push(format!("{device}1"));
    }
    let end = Instant::now() + Duration::from_millis(random.u64(TIME));
    let mut attached = vec![false; devices.len()];
    while Instant::now() < end {
        if plan.filter {
            let one = random.usize(0..devices.len());
            if let (Some(device), Some(is)) = (devices.get(one), attached.get_mut(one)) {
                if *is {
                    control::detach(&guest, device)?;
                } else {
                    control::attach(&guest, device, "precache")?;
                }
                *is = !*is;
            }
        }
        std::thread::sleep(Duration::from_millis(random.u64(0..800)));
    }
    for load in &mut loads {
        load.goes_on()?;
    }
    guest.kill()?;
    daemon.stop()?;
    let mut victims = Vec::new();
    for (filesystem, before, _, dir) in disks {
        victims.push(Victim {
            filesystem,
            before,
            log: WriteLog::open(&dir.path().join("log"))?,
            seed,
            _dir: dir,
        });
    }
    Ok(victims)
}

fn mount(guest: &Guest, filesystem: Filesystem, device: &str, name: &str) -> Result<()> {
    let kind = filesystem.name();
    guest.run(&format!("modprobe {kind}"))?;
    guest.run(&format!("mkdir -p /mnt/{name}"))?;
    guest
        .run(&format!(
            "busybox mount -t {kind} -o discard {device} /mnt/{name}"
        ))
        .map(|_| ())
}

impl Victim {
    /// What is on the disk after the power was cut.
    fn after(&self, requests: usize, forgets: usize, seed: u64) -> Result<Image> {
        let image = self.before.copy()?;
        let notes = (SIZE + 1) << 20;
        self.log.replay(
            &image.path(),
            &PowerCut {
                requests,
                forgets,
                kept: notes..notes + (NOTES << 20),
                seed,
            },
        )?;
        Ok(image)
    }

    /// Disks after several power cuts, the last one first.
    fn cuts(&self, random: &mut Rng) -> Result<Vec<Image>> {
        let all = self.log.requests();
        println!(
            "{}: {all} requests, {} flushes",
            self.filesystem.name(),
            self.log.flushes()
        );
        ensure!(self.log.flushes() > 0, "nothing was flushed");
        let mut images = vec![self.after(all, 0, random.u64(..))?];
        for _ in 1..CUTS {
            images.push(self.after(random.usize(all / 3..all), 0, random.u64(..))?);
        }
        Ok(images)
    }
}

/// Mounts each disk, and compares what is there with what was noted; then
/// checks the file systems. Gives back what was noted on each.
fn recover(name: &str, disks: &[(Filesystem, u32, Image)]) -> Result<Vec<u64>> {
    let drives = disks.iter().map(|(_, _, image)| Drive::new(image.path()));
    let guest = filter::guest(name, MEMORY, drives.collect())?;
    let mut noted = Vec::new();
    for (letter, (filesystem, seed, _)) in ('a'..).zip(disks) {
        let device = format!("/dev/vd{letter}");
        mount(&guest, *filesystem, &format!("{device}1"), "victim")?;
        let says = guest.run(&format!(
            "load recovered /mnt/victim/load {device}2 --seed {seed}"
        ))?;
        println!("{} on {device}: {}", filesystem.name(), says.trim());
        let count = says.split_whitespace().next().and_then(|n| n.parse().ok());
        noted.push(count.with_context(|| says.clone())?);
        guest.run("busybox umount /mnt/victim")?;
        if *filesystem == Filesystem::Btrfs {
            // It remembers disks, and these are all the same one to it.
            guest.run("rmmod btrfs")?;
        }
    }
    guest.power_off()?;
    for (_, _, image) in disks {
        image.check(&bed::assets()?)?;
    }
    Ok(noted)
}

fn survives(plan: &Plan) -> Result<()> {
    let seed = filter::seed();
    let mut random = Rng::with_seed(u64::from(seed) + 1);
    let outcome = || -> Result<()> {
        let mut disks = Vec::new();
        for victim in run(plan, seed)? {
            for image in victim.cuts(&mut random)? {
                disks.push((victim.filesystem, victim.seed, image));
            }
        }
        let noted = recover(plan.name, &disks)?;
        for last in noted.iter().step_by(CUTS as usize) {
            ensure!(*last >= NOTED, "too little was noted: {noted:?}");
        }
        Ok(())
    };
    outcome_with(seed, outcome)
}

fn outcome_with(seed: u32, outcome: impl FnOnce() -> Result<()>) -> Result<()> {
    outcome().with_context(|| format!("with {}={seed}", filter::SEED))
}

#[test]
#[ignore = "a control: cargo xtask e2e without_a_filter --ignored"]
fn without_a_filter_what_was_flushed_survives() -> Result<()> {
    survives(&Plan {
        name: "bare-power",
        filesystems: vec![Filesystem::Ext4],
        filter: false,
    })
}

#[test]
fn what_was_flushed_survives_while_filters_come_and_go() -> Result<()> {
    survives(&Plan {
        name: "power",
        filesystems: Filesystem::ALL.into(),
        filter: true,
    })
}

#[test]
fn a_disk_that_forgets_what_was_flushed_is_found_out() -> Result<()> {
    let plan = Plan {
        name: "forgetful",
        filesystems: vec![Filesystem::Ext4],
        filter: false,
    };
    let seed = filter::seed();
    outcome_with(seed, || {
        let victim = run(&plan, seed)?.pop().context("no disk")?;
        let image = victim.after(victim.log.requests(), FORGOTTEN, seed.into())?;
        match recover("forgetful", &[(victim.filesystem, seed, image)]) {
            Ok(noted) => bail!("{noted:?} notes hold on a disk that forgets"),
            Err(error) => {
                let text = format!("{error:#}");
                println!("{text}");
                ensure!(DAMAGE.iter().any(|word| text.contains(word)), "{text}");
                Ok(())
            }
        }
    })
}
