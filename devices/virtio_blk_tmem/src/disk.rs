// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One VM's disk.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tmem_store::{Client, Page, PoolConfig, PoolError, PoolKind};
use virtio_serve::{Lost, Report};

use crate::config::DiskConfig;
use crate::limits::{BLOCK, QUEUE_SIZE};
use crate::metrics::Metrics;
use crate::pages::{Blocks, Changes, OBJECT};
use crate::wire::WRITEBACK;
use crate::{space, swap_header};

/// The pool of a disk's pages.
const POOL: u32 = 0;

/// Why there is no disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// It would not have a block.
    #[error("a disk has at least one block of {BLOCK} bytes")]
    NoBlocks,
    /// The store has no pool for it.
    #[error("the store has no pool for the disk: {0}")]
    Pool(#[from] PoolError),
}

/// One VM's disk. Shared by all its queues.
#[derive(Debug)]
pub struct Disk {
    client: Client,
    config: DiskConfig,
    blocks: u64,
    header: Option<Box<Page>>,
    changes: Changes,
    writeback: AtomicBool,
    incomplete: AtomicBool,
    metrics: Metrics,
    memory_lost: Lost,
}

impl Disk {
    /// The disk whose pages `client` has. If it has some from before, they are what the disk
    /// has; what lies beyond its end is removed.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn new(client: Client, config: DiskConfig) -> Result<Self, DiskError> {
        let blocks = config.bytes / BLOCK;
        if blocks == 0 {
            return Err(DiskError::NoBlocks);
        }
        let header = config.swapspace.as_ref();
        let disk = Self {
            client,
            blocks,
            header: header.map(|header| swap_header::page(header, blocks)),
            changes: Changes::default(),
            writeback: AtomicBool::new(false),
            incomplete: AtomicBool::new(false),
            metrics: Metrics::new(config.name.clone()),
            memory_lost: Lost::default(),
            config,
        };
        disk.make_pool()?;
        if let Some(pool) = disk.client.pool(POOL) {
            let beyond = pool.flush(&OBJECT, blocks, u64::MAX);
            disk.metrics.destroyed(beyond);
        }
        Ok(disk)
    }

    fn make_pool(&self) -> Result<(), PoolError> {
        let config = PoolConfig::new(PoolKind::Persistent);
        self.client.create_pool(POOL, config).map(|_| ())
    }

    /// The same disk, whose driver's mistakes are reported to `report`, for a log. The
    /// counters have them all.
    pub fn with_report(mut self, report: Report) -> Self {
        self.metrics.set_report(report);
        self
    }

    /// The store client behind the disk.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What it was made from.
    pub fn config(&self) -> &DiskConfig {
        &self.config
    }

    /// Blocks of [`BLOCK`] bytes that it has.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// What was counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether the VM's memory was lost. Nothing is completed then.
    pub fn memory_lost(&self) -> &Lost {
        &self.memory_lost
    }

    /// Features of the device, and of the ring as far as they depend on how requests are
    /// served.
    pub fn features(&self) -> u64 {
        space::FEATURES
    }

    /// The driver has accepted these features. What it may ask for does not depend on them;
    /// a new driver finds the configuration space as it was.
    pub fn negotiated(&self, _features: u64) {
        self.writeback.store(false, Relaxed);
    }

    /// Largest size of each queue, in descriptors.
    pub fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; self.config.queues.into()]
    }

    /// Bytes `offset..offset + size` of the configuration space, zero beyond its end; always
    /// exactly `size` bytes.
    pub fn read_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let writeback = self.writeback.load(Relaxed);
        let space = space::space(self.blocks, self.config.queues, writeback).encode();
        let from = space.iter().copied().skip(offset as usize);
        let mut bytes: Vec<u8> = from.take(size as usize).collect();
        bytes.resize(size as usize, 0);
        bytes
    }

    /// Takes what the driver writes to the configuration space: whether it wants a write cache
    /// that has to be flushed. It changes nothing but what is read back.
    pub fn write_config(&self, offset: u32, data: &[u8]) {
        if let (WRITEBACK, [wanted @ 0..=1]) = (offset, data) {
            self.writeback.store(*wanted == 1, Relaxed);
        }
    }

    /// Changes the quota in bytes. Above a lowered quota the disk keeps what it has, and
    /// writes of new blocks fail.
    pub fn set_quota(&self, bytes: u64) {
        self.client.set_quota(bytes);
    }

    /// Freezes or thaws the VM: writes of new blocks fail meanwhile.
    pub fn set_frozen(&self, frozen: bool) {
        self.client.set_frozen(frozen);
    }

    /// The driver has written blocks that are gone, or has not any more: meanwhile a block
    /// that has no page cannot be read, nor zeros be written but as blocks.
    pub fn set_incomplete(&self, incomplete: bool) {
        self.incomplete.store(incomplete, Relaxed);
    }

    /// Makes the disk as it was at first; returns how many blocks went. Only while no driver
    /// can reach it.
    ///
    /// # Errors
    /// When the store has no room for the pool any more: then no request can be served until
    /// this is called again.
    pub fn erase(&self) -> Result<u64, DiskError> {
        let removed = self.client.destroy_pool(POOL).unwrap_or(0);
        self.metrics.destroyed(removed);
        self.make_pool()?;
        Ok(removed)
    }

    /// The blocks; `None` if the pool is gone.
    pub(crate) fn open(&self) -> Option<Blocks<'_>> {
        Some(Blocks {
            pool: self.client.pool(POOL)?,
            metrics: &self.metrics,
            changes: &self.changes,
            header: self.header.as_deref(),
            incomplete: self.incomplete.load(Relaxed),
        })
    }
}
