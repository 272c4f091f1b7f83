// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk as a virtio device, with a thread that works on its queue.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

use super::execute::Executor;
use super::{BlockStats, Disk, layout};
use crate::confine::Role;
use crate::virtio::{Activation, Backend, ServedQueue, Source, VirtioDevice, Worker, config};

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
        let backend = Queue {
            executor: Executor::new(name, disk, stats.clone()),
            queue: None,
        };
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

/// The queue, on the thread.
struct Queue {
    executor: Executor,
    queue: Option<ServedQueue>,
}

impl Backend for Queue {
    fn start(&mut self, mut activation: Activation) {
        self.executor.negotiated(activation.features);
        self.queue = activation
            .take(0)
            .map(|queue| ServedQueue::new(queue, activation.memory, activation.interrupt));
    }

    fn stop(&mut self) {
        self.queue = None;
    }

    fn sources(&self) -> Vec<Source<'_>> {
        self.queue
            .iter()
            .map(|queue| Source {
                file: queue.kick(),
                number: 0,
            })
            .collect()
    }

    fn ready(&mut self, _number: usize) {
        if let Some(queue) = &mut self.queue {
            queue.kicked();
            queue.serve(|chain| self.executor.serve(chain));
        }
    }
}
