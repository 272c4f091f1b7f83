// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a pool's pages are: blocks of 16 consecutive pages of one object,
//! found through a hash table and linked per object and by age.
//!
//! The index of a pool is cut into [`SHARDS`] shards, each under a lock of its
//! own. A stretch of [`STRIPE_BLOCKS`] blocks of an object lies in one shard.

mod claim;
mod deferred;
mod dense;
mod key;
mod list;
mod maps;
mod shard;
mod slab;
mod walk;

pub(crate) use claim::{Claim, Place};
pub(crate) use key::{Key, Seed, shard_of, split};
pub(crate) use shard::{OutOfRoom, Shard};
pub(crate) use walk::Walk;

use crate::tier::Cells;

/// Shards of a pool.
pub(crate) const SHARDS: usize = 8;

/// Pages in a block.
pub(crate) const BLOCK_PAGES: u64 = Cells::COUNT as u64;

/// Blocks of an object that lie in one shard together.
pub(crate) const STRIPE_BLOCKS: u64 = 16;
