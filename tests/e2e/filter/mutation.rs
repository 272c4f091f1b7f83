// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The load raises an alarm: old blocks are put back behind the kernel's back,
//! as a filter that missed a write would do.

use crate::filter;
use crate::filter::places::Disk;
use crate::filter::places::Place;
use crate::filter::places::Use;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tmem_e2e::Bus;
use tmem_e2e::Filesystem;
use tmem_load::content;
use tmem_load::content::Claim;

/// Bytes in a block.
const BLOCK: usize = 4096;

/// Blocks that are put back. The load itself writes over some of them before
/// it looks.
const BLOCKS: usize = 60;

/// How long the load has to find one of them.
const DEADLINE: Duration = Duration::from_secs(180);

/// For much to be written between two looks.
const WHILE: Duration = Duration::from_secs(2);

#[test]
fn a_block_that_goes_back_in_time_is_found_and_named() -> Result<()> {
    let uses = [Use::Mounted(Filesystem::Ext4), Use::Raw];
    let mut disks = Vec::new();
    for usage in uses {
        disks.push(Disk::new(usage, Bus::Virtio, usage != Use::Raw)?);
    }
    let drives = disks.iter().map(Disk::drive).collect();
    let guest = filter::guest("mutation", 320, drives)?;
    let devices = Disk::devices(&guest, &disks)?;
    for (disk, device) in disks.into_iter().zip(devices) {
        let image = disk.image.path();
        let mut place = Place::start(&guest, disk, device, filter::seed(), 3600)?;
        // What is compared is right until it is made wrong.
        place.load.check()?;
        let end = Instant::now() + DEADLINE;
        let mut put_back = 0;
        let error = loop {
            ensure!(
                Instant::now() < end,
                "{put_back} old blocks of {} were put back, and the last passed as well",
                place.device
            );
            let old = contents(&image)?;
            std::thread::sleep(WHILE);
            // What is compared is right until it is made wrong, or right again: the load may
            // have written over all that was put back.
            if let Err(error) = place.load.check() {
                break error;
            }
            put_back += age(&image, &old)?;
            if let Err(error) = place.load.check() {
                break error;
            }
        };
        ensure!(put_back > 0, "before a block was put back: {error:#}");
        let text = format!("{error:#}");
        println!("{text}");
        ensure!(text.contains("WRONG BYTES"), "{text}");
        ensure!(text.contains("found generation"), "{text}");
    }
    guest.kill()
}

/// Every block of the image that begins with content of the load.
fn contents(image: &Path) -> Result<Vec<(u64, Claim, Vec<u8>)>> {
    let file = File::open(image).context("cannot open an image")?;
    let size = file.metadata()?.len();
    let mut found = Vec::new();
    let mut block = vec![0; BLOCK];
    for at in (0..size).step_by(BLOCK) {
        file.read_exact_at(&mut block, at)?;
        if let Some(claim) = content::claim(&block) {
            found.push((at, claim, block.clone()));
        }
    }
    Ok(found)
}

/// Puts blocks back that have a later generation of the same content now;
/// gives back how many.
fn age(image: &Path, old: &[(u64, Claim, Vec<u8>)]) -> Result<usize> {
    let file = File::options().read(true).write(true).open(image)?;
    let mut now = vec![0; BLOCK];
    let mut count = 0;
    for (at, was, bytes) in old {
        file.read_exact_at(&mut now, *at)?;
        let newer = content::claim(&now).is_some_and(|is| {
            (is.name.file, is.at) == (was.name.file, was.at)
                && is.name.generation > was.name.generation
        });
        if newer && count < BLOCKS {
            file.write_all_at(bytes, *at)?;
            count += 1;
        }
    }
    Ok(count)
}
