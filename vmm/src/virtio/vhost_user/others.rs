// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices of a daemon, told apart. vhost-user does not say which device it is that is served;
//! features and configuration space do.

use virtio_blk_tmem::BLOCK;
use virtio_blk_tmem::space::FEATURES;
use virtio_blk_tmem::wire::{SPACE, Space};
use virtio_tmem::wire::Config;

use super::offer::Told;

/// Whether it is virtio-tmem: no other device begins with its magic and offers no disk's
/// features.
pub(super) fn is_tmem(told: &Told) -> bool {
    told.space.starts_with(&Config::MAGIC.to_le_bytes()) && !has_disk_features(told)
}

/// Whether it is a daemon's plain disk: one with all its features, and with blocks that are
/// pages.
pub(super) fn is_plain_disk(told: &Told) -> bool {
    let space = told.space.first_chunk::<SPACE>();
    let has_pages = space.is_some_and(|space| u64::from(Space::decode(space).blk_size) == BLOCK);
    has_pages && has_disk_features(told)
}

fn has_disk_features(told: &Told) -> bool {
    told.features & FEATURES == FEATURES
}

#[cfg(test)]
mod tests {
    use virtio_blk_tmem::space::space;

    use super::*;
    use crate::virtio::vhost_user::offer::NEEDED;

    fn told(features: u64, space: &[u8]) -> Told {
        Told {
            features: NEEDED | features,
            space: space.to_vec(),
            queues: 2,
        }
    }

    /// Sectors that make the configuration space of a disk begin as that of virtio-tmem does.
    fn misleading() -> u64 {
        let version = u64::from(Config::VERSION);
        version << 32 | u64::from(Config::MAGIC)
    }

    #[test]
    fn each_is_what_it_is_and_not_the_other() {
        let tmem = told(0, &Config::MAGIC.to_le_bytes());
        assert!(is_tmem(&tmem) && !is_plain_disk(&tmem));
        for blocks in [1, 1 << 20, misleading() / 8] {
            let disk = told(FEATURES, &space(blocks, 2, false).encode());
            assert!(is_plain_disk(&disk) && !is_tmem(&disk), "{blocks}");
        }
    }

    #[test]
    fn a_disk_whose_size_is_the_magic_is_a_disk() {
        let mut bytes = space(1, 2, false).encode();
        bytes[..8].copy_from_slice(&misleading().to_le_bytes());
        let disk = told(FEATURES, &bytes);
        assert!(is_plain_disk(&disk) && !is_tmem(&disk));
    }

    #[test]
    fn what_is_neither_is_neither() {
        let bytes = space(1, 2, false).encode();
        for (features, space) in [
            (0, &bytes[..]),
            (FEATURES, &[0; SPACE]),
            (0, &[]),
            (FEATURES, &[]),
        ] {
            let told = told(features & !(1 << 6), space);
            assert!(!is_plain_disk(&told) && !is_tmem(&told), "{told:?}");
        }
    }
}
