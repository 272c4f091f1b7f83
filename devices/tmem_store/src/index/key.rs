// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From handles to shards, blocks and hashes.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::{BLOCK_PAGES, SHARDS, STRIPE_BLOCKS};
use crate::types::ObjectId;

/// Keys the hashes of a pool, so that a guest cannot choose handles that
/// collide. (It can choose handles that share a shard, and slow down itself.)
#[derive(Clone, Debug, Default)]
pub(crate) struct Seed(RandomState);

impl Seed {
    /// Hash of an object.
    pub(super) fn object(&self, object: &ObjectId) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(object);
        hasher.finish()
    }

    /// Hash of a block of an object.
    pub(super) fn block(&self, object: &ObjectId, block: u64) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(object);
        hasher.write_u64(block);
        hasher.finish()
    }
}

/// Names a block: 16 pages of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    /// The object.
    pub(crate) object: &'a ObjectId,
    /// Number of the block: page index / 16.
    pub(crate) block: u64,
    /// Keyed hash of both.
    pub(super) hash: u64,
}

impl<'a> Key<'a> {
    /// Names block `block` of `object`.
    pub(crate) fn new(seed: &Seed, object: &'a ObjectId, block: u64) -> Self {
        Self {
            object,
            block,
            hash: seed.block(object, block),
        }
    }

    /// The shard of the block.
    pub(crate) fn shard(&self) -> usize {
        shard_of(self.object, self.block)
    }
}

/// Number of the block that page `index` is in, and its place there.
pub(crate) fn split(index: u64) -> (u64, usize) {
    (index / BLOCK_PAGES, (index % BLOCK_PAGES) as usize)
}

/// The shard that a block of an object is in.
pub(crate) fn shard_of(object: &ObjectId, block: u64) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut mixed = (block / STRIPE_BLOCKS).wrapping_mul(ODD);
    for word in object.as_chunks::<8>().0 {
        mixed = (mixed.rotate_left(29) ^ u64::from_le_bytes(*word)).wrapping_mul(ODD);
    }
    (mixed >> 32) as usize % SHARDS
}
