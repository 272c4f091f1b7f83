// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A plain disk: virtio-blk (virtio 1.2, section 5.2), as a daemon has it.
//!
//! Drivers hear of another capacity, and of nothing else, so a disk without a daemon is one of
//! no sectors. Whether it has the pages of a driver that goes on is for the daemon to judge: the
//! blocks that are gone are errors.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_blk_tmem::BLOCK;
use virtio_blk_tmem::space;
use virtio_blk_tmem::wire::{Limits, SPACE, Space, WRITEBACK};

use super::offer::{Device, Fit, Knows, NEEDED, Offer, QUEUE_SIZE, Told};
use super::others;

/// Features that a driver is shown if the daemon offers them.
const FEATURES: u64 = NEEDED | space::FEATURES;

/// Most buffers of data in a request: header and status are in the queue, too.
const MOST_SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Disk;

impl Device for Disk {
    fn id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn queues(&self, request_queues: u16) -> u16 {
        request_queues
    }

    fn space_size(&self) -> usize {
        SPACE
    }

    /// But for the capacity, it is what a daemon of this release says.
    fn placeholder(&self, request_queues: u16) -> Offer {
        show(FEATURES, &space::space(0, request_queues, false))
    }

    fn offer(&self, told: &Told, request_queues: u16) -> Result<Offer, String> {
        let space = read(&told.space).ok_or("its configuration is too short")?;
        let has = |feature| has(told.features, feature);
        if !has(VIRTIO_BLK_F_BLK_SIZE) || u64::from(space.blk_size) != BLOCK {
            return Err(wrong(told));
        }
        let makes_sense = (!has(VIRTIO_BLK_F_SIZE_MAX) || u64::from(space.size_max) >= BLOCK)
            && (!has(VIRTIO_BLK_F_SEG_MAX) || space.seg_max > 0)
            && space.capacity.is_multiple_of(BLOCK_SECTORS);
        if !makes_sense {
            return Err(format!("its configuration makes no sense: {space:?}"));
        }
        // Without the feature, it has one that it does not tell of.
        let queues = match has(VIRTIO_BLK_F_MQ) {
            true => space.num_queues,
            false => 1,
        };
        let rings = u16::try_from(told.queues).unwrap_or(u16::MAX);
        let queues = queues.min(rings).min(request_queues);
        if queues == 0 {
            return Err("it has no request queue".to_owned());
        }
        let shown = Space {
            seg_max: space.seg_max.min(MOST_SEGMENTS),
            num_queues: queues,
            ..space
        };
        Ok(show(told.features & FEATURES, &shown))
    }

    fn fit(&self, driver: Knows<'_>, daemon: &Offer) -> Fit {
        let missing = driver.features & !daemon.features;
        if missing != 0 {
            return Fit::Bad(format!(
                "it lacks the features {missing:#x}, which the guest's driver uses; use a daemon \
                 of this release, or start the guest again"
            ));
        }
        if driver.queues > daemon.queues {
            return Fit::Bad(format!(
                "it has too few queues, {} where the guest's driver uses {}; start it with \
                 --request-queues {1}, or tmem-vmm with --tmem-swap socket=…,queues={0}",
                daemon.queues, driver.queues
            ));
        }
        let (Some(known), Some(new)) = (read(&driver.offer.space), read(&daemon.space)) else {
            return Fit::Bad("its configuration is too short".to_owned());
        };
        if !is_within(driver.features, &known, &new) {
            return Fit::Bad(
                "it takes less in a request than the guest's driver was told; use a daemon of \
                 this release, or start the guest again"
                    .to_owned(),
            );
        }
        match known.capacity == new.capacity {
            true => Fit::Good,
            false => Fit::Changed(new.capacity.to_le_bytes().to_vec()),
        }
    }

    /// Whether there is a write cache, and nothing else.
    fn may_write(&self, offer: &Offer, offset: usize, data: &[u8]) -> bool {
        has(offer.features, VIRTIO_BLK_F_CONFIG_WCE)
            && offset == WRITEBACK as usize
            && matches!(data, [0 | 1])
    }

    fn written(&self, driver: Knows<'_>) -> Option<(u32, Vec<u8>)> {
        let space = read(&driver.offer.space)?;
        has(driver.features, VIRTIO_BLK_F_CONFIG_WCE)
            .then(|| (WRITEBACK, vec![space.writeback.into()]))
    }
}

/// Sectors of a block.
const BLOCK_SECTORS: u64 = BLOCK / virtio_blk_tmem::SECTOR;

fn has(features: u64, feature: u32) -> bool {
    features & (1 << feature) != 0
}

fn read(space: &[u8]) -> Option<Space> {
    space.first_chunk().map(Space::decode)
}

fn show(features: u64, space: &Space) -> Offer {
    Offer {
        features,
        space: space.encode().to_vec(),
        queues: space.num_queues,
    }
}

/// Why it is no plain disk.
fn wrong(told: &Told) -> String {
    match others::is_tmem(told) {
        true => "it serves virtio-tmem there, not a plain disk; give its socket to --tmem, or a \
                 virtual machine with personality=blk to --tmem-swap"
            .to_owned(),
        false => format!(
            "it does not serve a plain disk with blocks of {BLOCK} bytes; give --tmem-swap the \
             socket of a virtual machine with personality=blk"
        ),
    }
}

/// Whether a daemon that says `new` takes whatever a driver may ask for that has negotiated
/// `features` and was shown `known`.
fn is_within(features: u64, known: &Space, new: &Space) -> bool {
    let unless = |feature, is_within: bool| !has(features, feature) || is_within;
    let limits =
        |known: Limits, new: Limits| known.ranges <= new.ranges && known.sectors <= new.sectors;
    unless(VIRTIO_BLK_F_SIZE_MAX, known.size_max <= new.size_max)
        && unless(VIRTIO_BLK_F_SEG_MAX, known.seg_max <= new.seg_max)
        && unless(VIRTIO_BLK_F_DISCARD, limits(known.discard, new.discard))
        && unless(
            VIRTIO_BLK_F_WRITE_ZEROES,
            limits(known.write_zeroes, new.write_zeroes),
        )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use virtio_tmem::wire::Config;

    use super::*;

    fn told(features: u64, space: &[u8]) -> Told {
        Told {
            features,
            space: space.to_vec(),
            queues: 2,
        }
    }

    #[test]
    fn virtio_tmem_is_called_so() {
        let mut space = [0; SPACE];
        space[..4].copy_from_slice(&Config::MAGIC.to_le_bytes());
        space[4..8].copy_from_slice(&Config::VERSION.to_le_bytes());
        let sentence = Disk.offer(&told(NEEDED, &space), 2).unwrap_err();
        assert!(sentence.contains("virtio-tmem there"), "{sentence}");
        assert!(sentence.contains("to --tmem,"), "{sentence}");
        // What is neither is not called anything.
        let sentence = Disk.offer(&told(NEEDED, &[1; SPACE]), 2).unwrap_err();
        assert!(!sentence.contains("virtio-tmem"), "{sentence}");
        assert!(sentence.contains("personality=blk"), "{sentence}");
    }

    #[test]
    fn the_placeholder_is_a_daemons_disk_but_for_its_size() {
        let space = space::space(8, 2, false).encode();
        let daemon = Disk.offer(&told(FEATURES, &space), 2).unwrap();
        let placeholder = Disk.placeholder(2);
        let driver = |queues| Knows {
            offer: &placeholder,
            features: placeholder.features,
            queues,
        };
        let capacity = 64u64.to_le_bytes().to_vec();
        assert_eq!(Disk.fit(driver(2), &daemon), Fit::Changed(capacity));
        // A driver that uses one queue needs one.
        let one = Disk.offer(&told(FEATURES, &space), 1).unwrap();
        assert!(matches!(Disk.fit(driver(1), &one), Fit::Changed(_)));
        let Fit::Bad(sentence) = Disk.fit(driver(2), &one) else {
            panic!("it fits");
        };
        assert!(sentence.contains("queues=1"), "{sentence}");
        assert!(sentence.contains("--request-queues 2"), "{sentence}");
    }
}
