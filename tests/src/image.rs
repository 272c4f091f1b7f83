// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disk images with file systems, made and checked on this machine.

use crate::assets::Assets;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use tempfile::TempDir;

/// Where the first partition begins, in bytes.
const FIRST: u64 = 1 << 20;

const SECTOR: u64 = 512;

/// Of dm-verity.
const BLOCK: u64 = 4096;

/// Bytes that are copied at once; those that are all zeros are left out.
const CHUNK: usize = 64 * 1024;

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// With a journal.
    Ext4,
    /// With shared blocks.
    Xfs,
    /// Writes nothing in place, with checksums.
    Btrfs,
}

impl Filesystem {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// As mount takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// What makes it.
    fn maker(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Ext4 => ("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "4096"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f"]),
            Self::Btrfs => ("mkfs.btrfs", &["-q", "-f"]),
        }
    }

    /// What checks it and changes nothing.
    fn checker(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Ext4 => ("e2fsck", &["-f", "-n"]),
            Self::Xfs => ("xfs_repair", &["-n"]),
            Self::Btrfs => ("btrfs", &["check", "--readonly"]),
        }
    }
}

/// What dm-verity has of an image, which it goes with.
pub struct Verity {
    /// The image of the hash device.
    pub hashes: PathBuf,
    /// Blocks of the image.
    pub blocks: u64,
    /// As dm-verity's table has it.
    pub salt: String,
    /// Likewise.
    pub root_hash: String,
}

impl Verity {
    /// The table of dm-verity on the disks `data` and `hashes`, of which the latter has the image of the hash
    /// device from the byte `offset` on, a multiple of blocks.
    pub fn table(&self, data: &str, hashes: &str, offset: u64) -> String {
        let Self {
            blocks,
            salt,
            root_hash,
            ..
        } = self;
        let sectors = blocks * (BLOCK / SECTOR);
        // Behind the superblock.
        let start = offset / BLOCK + 1;
        format!(
            "0 {sectors} verity 1 {data} {hashes} {BLOCK} {BLOCK} {blocks} {start} sha256 {root_hash} {salt}"
        )
    }
}

/// A disk image, gone when it is dropped.
pub struct Image {
    dir: TempDir,
    partition: Option<(u64, u64)>,
    filesystem: Option<Filesystem>,
}

impl Image {
    /// `mib` MiB of zeros.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn empty(mib: u64) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tmem-image-")
            .tempdir()
            .context("cannot make a directory for an image")?;
        let image = Self {
            dir,
            partition: None,
            filesystem: None,
        };
        sparse(&image.path(), mib << 20)?;
        Ok(image)
    }

    /// Two partitions: the first of `first` MiB, the second of the rest.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn partitioned(mib: u64, first: u64) -> Result<Self> {
        let mut image = Self::empty(mib)?;
        let (start, length) = (FIRST, first << 20);
        let rest = start + length..mib << 20;
        let table = master_boot_record(&[(start, length), (rest.start, rest.end - rest.start)])?;
        let file = File::options().write(true).open(image.path())?;
        file.write_all_at(&table, 0)
            .context("cannot write partitions")?;
        image.partition = Some((start, length));
        Ok(image)
    }

    /// Makes a file system on the whole disk, or in its first partition.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn format(&mut self, assets: &Assets, filesystem: Filesystem) -> Result<()> {
        self.format_with(assets, filesystem, &[])
    }

    /// The same with more options for the program that makes it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn format_with(
        &mut self,
        assets: &Assets,
        filesystem: Filesystem,
        more: &[&str],
    ) -> Result<()> {
        let (program, options) = filesystem.maker();
        let options = &[options, more].concat();
        match self.partition {
            None => drop(run(assets, program, options, &self.path())?),
            Some((start, length)) => {
                let part = self.dir.path().join("partition.raw");
                sparse(&part, length)?;
                run(assets, program, options, &part)?;
                copy(&part, 0, &self.path(), start, length)?;
                std::fs::remove_file(&part).context("cannot remove a partition's image")?;
            }
        }
        self.filesystem = Some(filesystem);
        Ok(())
    }

    /// The image.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("disk.raw")
    }

    /// Has `veritysetup` make the tree of the hashes of its blocks, with the defaults.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn verity(&self, assets: &Assets) -> Result<Verity> {
        let hashes = self.dir.path().join("hashes.raw");
        let data = self.path();
        let data = data.to_str().context("the directory has no name")?;
        let said = run(assets, "veritysetup", &["format", data], &hashes)?;
        let field = |name: &str| {
            let value = said.lines().find_map(|line| line.strip_prefix(name));
            let value = value.map(|value| value.trim().to_string());
            value.with_context(|| format!("veritysetup does not say {name:?}:\n{said}"))
        };
        Ok(Verity {
            blocks: field("Data blocks:")?.parse()?,
            salt: field("Salt:")?,
            root_hash: field("Root hash:")?,
            hashes,
        })
    }

    /// What is on it.
    pub fn filesystem(&self) -> Option<Filesystem> {
        self.filesystem
    }

    /// Its name in a guest in which the whole disk is `disk`, such as
    /// `/dev/vda`.
    pub fn device(&self, disk: &str) -> String {
        match self.partition {
            None => disk.to_string(),
            Some(_) if disk.ends_with(|last: char| last.is_ascii_digit()) => format!("{disk}p1"),
            Some(_) => format!("{disk}1"),
        }
    }

    /// A copy of it.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn copy(&self) -> Result<Self> {
        let size = std::fs::metadata(self.path())?.len();
        let mut image = Self::empty(size >> 20)?;
        copy(&self.path(), 0, &image.path(), 0, size)?;
        image.partition = self.partition;
        image.filesystem = self.filesystem;
        Ok(image)
    }

    /// Fails unless the file system is whole. Nobody may be writing to it.
    ///
    /// # Errors
    /// It is damaged.
    pub fn check(&self, assets: &Assets) -> Result<()> {
        let filesystem = self.filesystem.context("there is no file system")?;
        let (program, options) = filesystem.checker();
        let whole = || format!("the {} file system is damaged", filesystem.name());
        match self.partition {
            None => run(assets, program, options, &self.path())
                .map(drop)
                .with_context(whole),
            Some((start, length)) => {
                let part = self.dir.path().join("partition.raw");
                sparse(&part, length)?;
                copy(&self.path(), start, &part, 0, length)?;
                run(assets, program, options, &part).with_context(whole)?;
                std::fs::remove_file(&part).context("cannot remove a partition's image")
            }
        }
    }
}

fn sparse(path: &Path, size: u64) -> Result<()> {
    File::create(path)
        .and_then(|file| file.set_len(size))
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Copies what is not zeros.
fn copy(from: &Path, from_at: u64, to: &Path, to_at: u64, length: u64) -> Result<()> {
    let from = File::open(from).context("cannot open an image")?;
    let to = File::options()
        .write(true)
        .open(to)
        .context("cannot open an image")?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < length {
        // A hole is passed over at once.
        let data = rustix::fs::seek(&from, rustix::fs::SeekFrom::Data(from_at + at));
        match data {
            Ok(next) => at = at.max((next - from_at) / CHUNK as u64 * CHUNK as u64),
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error).context("cannot read an image"),
        }
        if at >= length {
            break;
        }
        let count = usize::try_from((length - at).min(CHUNK as u64))?;
        let part = buffer.get_mut(..count).unwrap_or_default();
        from.read_exact_at(part, from_at + at)
            .context("cannot read an image")?;
        if part.iter().any(|byte| *byte != 0) {
            to.write_all_at(part, to_at + at)
                .context("cannot write an image")?;
        }
        at += count as u64;
    }
    Ok(())
}

/// The first sector of a disk with `partitions`: where each begins and how long
/// it is, in bytes.
fn master_boot_record(partitions: &[(u64, u64)]) -> Result<[u8; 512]> {
    /// Linux.
    const KIND: u8 = 0x83;
    let mut table = Vec::with_capacity(64);
    for (start, length) in partitions {
        // Cylinders, heads and sectors are those of places beyond their reach.
        let mut entry = [0, 0xfe, 0xff, 0xff, KIND, 0xfe, 0xff, 0xff].to_vec();
        entry.extend(u32::try_from(start / SECTOR)?.to_le_bytes());
        entry.extend(u32::try_from(length / SECTOR)?.to_le_bytes());
        table.extend(entry);
    }
    table.resize(64, 0);
    let mut sector = vec![0; 446];
    sector.extend(table);
    sector.extend([0x55, 0xaa]);
    <[u8; 512]>::try_from(sector)
        .ok()
        .context("a table has four partitions at most")
}

/// What the program says.
fn run(assets: &Assets, program: &str, options: &[&str], image: &Path) -> Result<String> {
    let words = assets.storage()?.tools.get(program);
    let mut words = words
        .with_context(|| format!("there is no {program}"))?
        .iter();
    let output = Command::new(words.next().context("it has no words")?)
        .args(words)
        .args(options)
        .arg(image)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} ends with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_where_the_table_says() {
        let image = Image::partitioned(8, 4).unwrap();
        let mut sector = [0; 512];
        let file = File::open(image.path()).unwrap();
        file.read_exact_at(&mut sector, 0).unwrap();
        let word = |at: usize| u32::from_le_bytes(sector[at..at + 4].try_into().unwrap());
        assert_eq!((word(446 + 8), word(446 + 12)), (2048, 8192));
        assert_eq!((word(462 + 8), word(462 + 12)), (10240, 6144));
        assert_eq!(sector[510..], [0x55, 0xaa]);
        assert_eq!(image.device("/dev/vda"), "/dev/vda1");
        assert_eq!(image.device("/dev/nvme0n1"), "/dev/nvme0n1p1");
    }

    #[test]
    fn a_copy_is_equal_and_as_sparse() {
        use std::os::unix::fs::MetadataExt;
        let image = Image::empty(64).unwrap();
        let file = File::options().write(true).open(image.path()).unwrap();
        file.write_all_at(b"here", 40 << 20).unwrap();
        file.write_all_at(b"and here", 50_000_000).unwrap();
        let copy = image.copy().unwrap();
        let bytes = |image: &Image| std::fs::read(image.path()).unwrap();
        assert!(bytes(&image) == bytes(&copy));
        let blocks = std::fs::metadata(copy.path()).unwrap().blocks();
        assert!(blocks < 2000, "{blocks}");
    }
}
