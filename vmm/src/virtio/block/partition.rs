// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Partition tables.

use std::os::unix::fs::FileExt;

/// Where the four entries of an MBR begin; 16 bytes each.
const ENTRIES: usize = 446;
/// What an MBR ends with.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// What a GPT begins with, in the block after the MBR.
const GPT: [u8; 8] = *b"EFI PART";

/// Whether the disk has an MBR or GPT partition table. A file that cannot be
/// read has none.
pub fn partitioned(file: &impl FileExt) -> bool {
    // A block has 512 bytes, or 4096.
    let gpt = [512, 4096].into_iter().any(|at| {
        let mut magic = [0; GPT.len()];
        file.read_exact_at(&mut magic, at).is_ok() && magic == GPT
    });
    let mut sector = [0; 512];
    gpt || file.read_exact_at(&mut sector, 0).is_ok() && is_mbr(&sector)
}

/// A file system's boot sector has the same signature, and code or text where
/// the entries would be: they must make sense.
fn is_mbr(sector: &[u8; 512]) -> bool {
    let (entries, signature) = sector.split_at(510);
    let entries = entries.get(ENTRIES..).unwrap_or_default();
    let entries = entries.as_chunks::<16>().0;
    signature == SIGNATURE
        && entries.iter().all(is_plausible)
        && entries.iter().any(|entry| !is_unused(entry))
}

fn is_unused(entry: &[u8; 16]) -> bool {
    *entry == [0; 16]
}

/// Boot flag, 3 bytes of CHS, type, 3 bytes of CHS, first sector, sectors.
fn is_plausible(entry: &[u8; 16]) -> bool {
    let [flag, _, _, _, kind, _, _, _, s0, s1, s2, s3, n0, n1, n2, n3] = *entry;
    let start = u32::from_le_bytes([s0, s1, s2, s3]);
    let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
    let used = kind != 0 && start != 0 && sectors != 0;
    matches!(flag, 0 | 0x80) && (used || kind == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn disk(parts: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        for (at, bytes) in parts {
            file.write_all_at(bytes, *at).unwrap();
        }
        file
    }

    const LINUX: [u8; 16] = [0x80, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0x10, 0, 0];

    #[test]
    fn partition_tables_are_seen() {
        let signature = (510, &[0x55, 0xaa][..]);
        assert!(partitioned(&disk(&[signature, (446, &LINUX)])));
        assert!(partitioned(&disk(&[signature, (494, &LINUX)])), "fourth");
        assert!(partitioned(&disk(&[(512, b"EFI PART")])));
        assert!(
            partitioned(&disk(&[(4096, b"EFI PART")])),
            "4096-byte blocks"
        );
    }

    #[test]
    fn file_systems_without_a_table_are_seen() {
        assert!(!partitioned(&disk(&[])), "zeros");
        assert!(!partitioned(&disk(&[(1080, &[0x53, 0xef])])), "ext4");
        let signature = (510, &[0x55, 0xaa][..]);
        assert!(!partitioned(&disk(&[signature])), "no partition");
        let text = b"not a bootable disk. Please insert";
        assert!(!partitioned(&disk(&[signature, (446, text)])), "FAT");
        assert!(!partitioned(&disk(&[(446, &LINUX)])), "no signature");
    }

    #[test]
    fn what_cannot_be_read_has_none() {
        assert!(!partitioned(&tempfile::tempfile().unwrap()));
    }
}
