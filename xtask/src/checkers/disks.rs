// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest's disks, as arguments of its kernel: one with partitions, one
//! with small blocks, one that init copies to a disk of SCSI, and such in
//! memory.

use crate::exec;
use crate::roots::Root;
use anyhow::Context;
use anyhow::Result;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// Size of each file system; of the one that init copies to a disk in memory.
const SIZE: u64 = 96 * MIB;
const SCSI: u64 = 48 * MIB;

/// Size of the swap partition.
const SWAP: u64 = 160 * MIB;

/// Where the first partition begins.
const FIRST: u64 = MIB;

/// Of scsi_debug, brd and device-mapper. The SCSI disk answers at once, in
/// another context than a timer's.
const IN_MEMORY: &[&str] = &[
    "scsi_debug.lbpu=1",
    "scsi_debug.delay=0",
    "null_blk.nr_devices=0",
    "loop.max_loop=1",
    "brd.rd_nr=2",
    "brd.rd_size=32768",
    "dm-mod.create=\"linear,,,rw,0 65536 linear /dev/ram1 0\"",
];

/// Makes the images in `dir`.
pub(super) fn make(tools: &Root, dir: &Path) -> Result<Vec<String>> {
    let parts = dir.join("parts.img");
    let start = format(tools, &parts, "4096", FIRST, SIZE)?;
    let table = table(&[(FIRST, SIZE), (FIRST + SIZE, SWAP)])?;
    start
        .set_len(FIRST + SIZE + SWAP)
        .and_then(|()| start.write_all_at(&table, 0))
        .context("cannot write partitions")?;
    let small = dir.join("small.img");
    format(tools, &small, "1024", 0, SIZE)?;
    let scsi = dir.join("scsi.img");
    format(tools, &scsi, "4096", 0, SCSI)?;
    let mut arguments: Vec<String> = [("ubda", parts), ("ubdb", small), ("ubdc", scsi)]
        .iter()
        .map(|(name, path)| format!("{name}={}", path.display()))
        .collect();
    arguments.push(format!("scsi_debug.dev_size_mb={}", SCSI / MIB));
    arguments.extend(IN_MEMORY.iter().map(|argument| (*argument).to_string()));
    Ok(arguments)
}

/// Makes an image with a file system of `size` bytes at `offset`.
fn format(tools: &Root, image: &Path, block: &str, offset: u64, size: u64) -> Result<File> {
    let file = File::create(image).context("cannot make an image")?;
    file.set_len(offset + size)
        .context("cannot make an image")?;
    let mut make = tools.program("usr/sbin/mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-b", block, "-E"])
        .arg(format!("offset={offset},lazy_itable_init=0"))
        .arg(image)
        .arg(format!("{}k", size / 1024));
    exec::output(&mut make)?;
    Ok(file)
}

/// The first sector of a disk with `partitions`: where each begins and how long
/// it is, in bytes.
fn table(partitions: &[(u64, u64)]) -> Result<Vec<u8>> {
    const ENTRIES: usize = 446;
    const LENGTH: usize = 510;
    let mut sector = vec![0; ENTRIES];
    for (start, length) in partitions {
        // Cylinders, heads and sectors are those of places beyond their reach.
        sector.extend([0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
        sector.extend(u32::try_from(start / SECTOR)?.to_le_bytes());
        sector.extend(u32::try_from(length / SECTOR)?.to_le_bytes());
    }
    sector.resize(LENGTH, 0);
    sector.extend([0x55, 0xaa]);
    Ok(sector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_table_is_one_sector() {
        let table = table(&[(FIRST, SIZE), (FIRST + SIZE, SWAP)]).unwrap();
        assert_eq!(table.len(), 512);
        assert_eq!(table[454..458], 2048u32.to_le_bytes());
        assert_eq!(table[470..474], (97 * 2048u32).to_le_bytes());
        assert_eq!(table[510..], [0x55, 0xaa]);
    }
}
