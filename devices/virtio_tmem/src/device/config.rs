// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The configuration space and the device's bounds.

use tmem_wire::{Capabilities, Config, PAGE_SHIFT};

/// Most pages in a PUT or GET: 1 MiB, as much as a swap cluster (32 pages) or
/// a readahead window (256 pages at most by default) asks for at once, and a
/// bound on how long one request keeps the others of its queue waiting.
pub const MAX_RUN: u32 = 256;

/// Most extents in a FLUSH_EXTENTS: exactly one page of them, which is copied
/// and judged as a whole before the first is flushed.
pub const MAX_EXTENTS: u32 = 256;

/// Most ranges in a RELINQUISH: exactly one page of them, judged as a whole
/// before the first is given back.
pub const MAX_RANGES: u32 = 256;

/// Pool ids run from 0 to 63: a swap disk and several dozen filesystems, at a
/// cost of a few hundred bytes of table for each VM.
pub const MAX_POOLS: u32 = 64;

/// Largest virtqueue in descriptors: what the tested front ends ask for.
pub const QUEUE_SIZE: u16 = 1024;

/// What a [`Device`](super::Device) is made from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeviceConfig {
    /// For people: log lines carry it.
    pub name: String,
    /// Names the set of pools: random, and new whenever the pools are new.
    pub instance: [u8; 16],
    /// Size of the granted swap disk in pages.
    pub swap_pages: u64,
    /// Request queues; the event queue comes on top.
    pub request_queues: u32,
    /// Pool ids run from 0 to `max_pools - 1`.
    pub max_pools: u32,
}

impl DeviceConfig {
    /// A device with one request queue, and no swap disk yet.
    pub fn new(name: impl Into<String>, instance: [u8; 16]) -> Self {
        Self {
            name: name.into(),
            instance,
            swap_pages: 0,
            request_queues: 1,
            max_pools: MAX_POOLS,
        }
    }

    /// The same device with so many pools, at most [`MAX_POOLS`].
    #[must_use]
    pub fn with_max_pools(mut self, max_pools: u32) -> Self {
        self.max_pools = max_pools.min(MAX_POOLS);
        self
    }

    /// The same device with a granted swap disk of so many pages.
    #[must_use]
    pub fn with_swap_pages(mut self, swap_pages: u64) -> Self {
        self.swap_pages = swap_pages;
        self
    }

    /// The same device with so many request queues.
    #[must_use]
    pub fn with_request_queues(mut self, request_queues: u32) -> Self {
        self.request_queues = request_queues;
        self
    }

    /// The configuration space of such a device.
    pub fn to_wire(&self) -> Config {
        Config {
            magic: Config::MAGIC,
            version: Config::VERSION,
            capabilities: Capabilities::PERSISTENT
                .union(Capabilities::EPHEMERAL)
                .union(Capabilities::GET_REMOVE)
                .union(Capabilities::FLUSH_EXTENTS)
                .union(Capabilities::EVENTS)
                .union(Capabilities::RELINQUISH),
            instance: self.instance,
            page_shift: PAGE_SHIFT,
            max_run: MAX_RUN,
            max_extents: MAX_EXTENTS,
            max_pools: self.max_pools,
            request_queues: self.request_queues,
            max_ranges: MAX_RANGES,
        }
    }
}

/// Bytes `offset..offset + size` of the space, zero beyond its end.
pub(super) fn read(config: &Config, offset: u32, size: u32) -> Vec<u8> {
    let space = config.encode();
    let mut bytes: Vec<u8> = space
        .iter()
        .copied()
        .skip(offset as usize)
        .take(size as usize)
        .collect();
    bytes.resize(size as usize, 0);
    bytes
}
