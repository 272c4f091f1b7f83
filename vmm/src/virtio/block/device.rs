// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk as a virtio device, with a thread that works on its queue.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

use super::execute::Executor;
use super::{BlockStats, Disk, layout};
use crate::confine::Role;
use crate::virtio::one_queue::{OneQueue, Serve};
use crate::virtio::{Activation, Chain, VirtioDevice, Worker, config};

/// A virtio-blk device.
#[derive(Debug)]
pub struct Block {
    features: u64,
    space: [u8; 60],
    stats: Arc<BlockStats>,
    worker: Worker,
}

impl Block {
    /// The device of `disk`, which the guest will probably call `name`: `vda`,
    /// `vdb`. Starts its thread.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor to give.
    pub fn new(name: &str, disk: Disk) -> io::Result<Self> {
        let stats = Arc::<BlockStats>::default();
        let features = layout::features(&disk);
        let space = layout::space(&disk);
        let backend = OneQueue::new(Executor::new(name, disk, stats.clone()));
        Ok(Self {
            features,
            space,
            stats,
            worker: Worker::new(&format!("disk-{name}"), Role::Device, backend)?,
        })
    }

    /// What the disk counts.
    pub fn stats(&self) -> Arc<BlockStats> {
        self.stats.clone()
    }
}

impl VirtioDevice for Block {
    fn id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![layout::QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config::read(&self.space, offset, data);
    }

    fn activate(&mut self, activation: Activation) {
        self.worker.start(activation);
    }

    fn reset(&mut self) {
        self.worker.stop();
    }
}

impl Serve for Executor {
    fn negotiated(&mut self, features: u64) {
        self.set_features(features);
    }

    fn serve(&mut self, chain: &mut Chain<'_>) -> u32 {
        self.answer(chain)
    }
}
