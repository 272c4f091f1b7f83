// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What dm-verity's superblock says of the hashes of a disk's blocks.
//!
//! Its layout is that of `veritysetup`: see "Verity superblock format" in cryptsetup's wiki. Where the
//! hashes of the blocks are follows from it as in the kernel's `verity_ctr()`: the levels of the tree lie one
//! after the other, the one with the root's children first.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};

use crate::disk::Number;
use crate::uapi::{SharedTarget, VerifiedTarget};

/// Bytes of the superblock.
const SIZE: usize = 512;

/// Bytes of a block, of data and of hashes: those of a page.
const BLOCK: u64 = 4096;

/// Bytes of a SHA-256, and how many of them a block has.
const HASH: u64 = 32;
const HASHES: u64 = BLOCK / HASH;

/// Where the hashes of a disk's blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hashes {
    /// The hash device.
    pub(crate) device: Number,
    /// The byte at which they begin on it.
    pub(crate) at: u64,
    /// Blocks that have one.
    pub(crate) blocks: u64,
}

impl Hashes {
    /// A disk with a verified share as the module takes it.
    pub(crate) fn target(&self, shared: SharedTarget) -> VerifiedTarget {
        VerifiedTarget {
            shared,
            hash_major: self.device.major,
            hash_minor: self.device.minor,
            hashes: self.at,
            blocks: self.blocks,
        }
    }
}

/// The hashes of the hash device `path`, whose superblock is at the byte `offset`.
///
/// # Errors
/// A sentence about what is there instead.
pub(crate) fn read(path: &str, device: Number, offset: u64) -> Result<Hashes> {
    let mut superblock = [0; SIZE];
    let file = File::open(path).with_context(|| format!("cannot open {path}"))?;
    file.read_exact_at(&mut superblock, offset)
        .with_context(|| format!("cannot read the superblock of dm-verity from {path}"))?;
    let (at, blocks) = locate(&superblock, offset)
        .map_err(|reason| anyhow!("{path} is of no use for a verified share: {reason}"))?;
    Ok(Hashes { device, at, blocks })
}

/// The byte at which the hashes of the blocks begin, and how many there are.
fn locate(superblock: &[u8; SIZE], offset: u64) -> Result<(u64, u64), String> {
    let field = |at: usize, len: usize| superblock.get(at..at + len).unwrap_or_default();
    let number = |at: usize, len: usize| {
        let bytes = field(at, len).iter().rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let be = |is: u64, wanted: u64, what: &str| match is == wanted {
        true => Ok(()),
        false => Err(format!("{what} is {is}, and has to be {wanted}")),
    };
    if field(0, 8) != b"verity\0\0" {
        return Err("it has no superblock of dm-verity there (see --hash-offset)".into());
    }
    be(number(8, 4), 1, "the version of its superblock")?;
    be(number(12, 4), 1, "its hash type")?;
    let algorithm = field(32, 32)
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    if algorithm != b"sha256" {
        let name = String::from_utf8_lossy(algorithm)
            .escape_debug()
            .to_string();
        return Err(format!("its hash is {name}, and has to be sha256"));
    }
    be(number(64, 4), BLOCK, "the size of its data blocks")?;
    be(number(68, 4), BLOCK, "the size of its hash blocks")?;
    let blocks = number(72, 8);
    if blocks < 2 || blocks > i64::MAX as u64 / BLOCK {
        return Err(format!("it is for {blocks} blocks"));
    }
    let first = offset
        .checked_add(SIZE as u64)
        .map(|end| end.div_ceil(BLOCK));
    let above = above(blocks);
    let at = first
        .and_then(|first| first.checked_add(above)?.checked_mul(BLOCK))
        .ok_or("it has no such offset")?;
    Ok((at, blocks))
}

/// Blocks of the levels above that of the hashes of `blocks` blocks, two at least.
fn above(blocks: u64) -> u64 {
    let (mut above, mut level) = (0, blocks.div_ceil(HASHES));
    while level > 1 {
        level = level.div_ceil(HASHES);
        above += level;
    }
    above
}

/// Sees to it that a device of device-mapper is above the disk `data` and its hash device: what is read
/// through it is checked by these hashes.
///
/// # Errors
/// A sentence, if there is none.
pub(crate) fn check(sys: &Path, name: &str, data: Number, hash: Number) -> Result<()> {
    let holders = sys.join("dev/block").join(data.to_string()).join("holders");
    let holders = fs::read_dir(holders).into_iter().flatten().flatten();
    let is_checked = holders
        .map(|holder| holder.path())
        .any(|holder| holder.join("dm").is_dir() && (hash == data || has_slave(&holder, hash)));
    ensure!(
        is_checked,
        "no dm-verity with this hash device is on {name}: open it first (`veritysetup open`), since it \
         is what checks the blocks that come from the share"
    );
    Ok(())
}

fn has_slave(holder: &Path, wanted: Number) -> bool {
    let slaves = fs::read_dir(holder.join("slaves")).into_iter().flatten();
    slaves.flatten().any(|slave| {
        let number = fs::read_to_string(slave.path().join("dev")).ok();
        number.and_then(|number| number.trim_end().parse().ok()) == Some(wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `veritysetup format` writes it.
    fn superblock(blocks: u64) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        for (at, field) in [
            (0, &b"verity\0\0"[..]),
            (8, &[1]),
            (12, &[1]),
            (16, &[0x5a; 16]),
            (32, b"sha256"),
            (64, &4096u32.to_le_bytes()),
            (68, &4096u32.to_le_bytes()),
            (72, &blocks.to_le_bytes()),
            (80, &[32, 0]),
            (88, &[0x77; 32]),
        ] {
            bytes[at..at + field.len()].copy_from_slice(field);
        }
        bytes
    }

    /// Where the kernel looks for level 0, after the number of hash blocks that `veritysetup` says.
    #[test]
    fn the_hashes_of_blocks_are_behind_the_levels_above_them() {
        for (blocks, block) in [
            (2, 1),
            (128, 1),
            (129, 2),
            (128 * 128, 2),
            (128 * 128 + 1, 1 + 1 + 2),
            (6144, 2),
            (1 << 21, 1 + 1 + 128),
        ] {
            let found = locate(&superblock(blocks), 0);
            assert_eq!(found, Ok((block * BLOCK, blocks)));
            // Behind the data on the same device.
            let end = blocks * BLOCK;
            let found = locate(&superblock(blocks), end);
            assert_eq!(found, Ok((end + block * BLOCK, blocks)));
        }
        // Any multiple of a sector may be an offset.
        assert_eq!(locate(&superblock(2), 512), Ok((BLOCK, 2)));
        assert_eq!(locate(&superblock(2), BLOCK - 512), Ok((BLOCK, 2)));
        assert_eq!(locate(&superblock(2), BLOCK), Ok((2 * BLOCK, 2)));
    }

    #[test]
    fn what_is_of_no_use_is_called_so() {
        let with = |at: usize, field: &[u8]| {
            let mut bytes = superblock(6144);
            bytes[at..at + field.len()].copy_from_slice(field);
            locate(&bytes, 0).unwrap_err()
        };
        for (at, field, wanted) in [
            (0, &b"LUKS"[..], "no superblock"),
            (8, &[2], "version"),
            (12, &[0], "hash type"),
            (32, b"sha512", "sha512"),
            (32, b"sha256x", "sha256x"),
            (32, b"\x1b[31m", "\\u{1b}"),
            (64, &[0, 2], "data blocks"),
            (68, &[0, 4], "hash blocks"),
            (72, &[0, 0], "0 blocks"),
            (72, &[1, 0], "1 blocks"),
            (72, &[0xff; 8], "blocks"),
        ] {
            let error = with(at, field);
            assert!(error.contains(wanted), "{error}");
        }
        assert!(locate(&superblock(2), u64::MAX - 3).is_err());
        let error = read("/dev/null", "8:1".parse().unwrap(), 0).unwrap_err();
        assert!(error.to_string().contains("superblock"), "{error}");
    }

    #[test]
    fn a_disk_without_dm_verity_on_it_is_refused() {
        use std::os::unix::fs::symlink;
        let sys = tempfile::tempdir().unwrap();
        let dir = |number: &str| {
            let dir = sys.path().join("dev/block").join(number);
            fs::create_dir_all(dir.join("holders")).unwrap();
            fs::create_dir_all(dir.join("slaves")).unwrap();
            fs::write(dir.join("dev"), format!("{number}\n")).unwrap();
            dir
        };
        let (data, hash, other, dm) = (dir("254:16"), dir("254:32"), dir("254:48"), dir("253:0"));
        let checked = |data: &str, hash: &str| {
            let [data, hash] = [data, hash].map(|number| number.parse().unwrap());
            check(sys.path(), "/dev/vdb", data, hash).is_ok()
        };
        assert!(!checked("254:16", "254:32"), "nothing is above it");
        symlink(&dm, data.join("holders/dm-0")).unwrap();
        symlink(&data, dm.join("slaves/vdb")).unwrap();
        symlink(&hash, dm.join("slaves/vdc")).unwrap();
        assert!(!checked("254:16", "254:32"), "it is no device-mapper");
        fs::create_dir(dm.join("dm")).unwrap();
        assert!(checked("254:16", "254:32"));
        assert!(checked("254:16", "254:16"), "all on one device");
        assert!(!checked("254:16", "254:48"), "{other:?} is another one");
        assert!(!checked("254:32", "254:16"), "the other way round");
        assert!(!checked("8:1", "254:32"), "there is no such disk");
    }
}
