// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk as a virtio device, with a thread that works on its queue.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tmem_host::personality::{Handler, Personality};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

use super::execute::Executor;
use super::{BlockStats, Disk, layout};
use crate::confine::Role;
use crate::virtio::notice::Notices;
use crate::virtio::personality::{Serve, Served};
use crate::virtio::{Chain, Chains, config};

/// A virtio-blk device.
#[derive(Debug)]
pub struct Block {
    name: String,
    pub(super) disk: Disk,
    space: [u8; 60],
    /// Features that the driver has accepted.
    negotiated: AtomicU64,
    pub(super) stats: Arc<BlockStats>,
}

impl Block {
    /// The device of `disk`, which the guest will probably call `name`: `vda`,
    /// `vdb`.
    pub fn new(name: &str, disk: Disk) -> Self {
        Self {
            name: name.into(),
            space: layout::space(&disk),
            disk,
            negotiated: AtomicU64::new(0),
            stats: Arc::default(),
        }
    }

    /// What the disk counts.
    pub fn stats(&self) -> Arc<BlockStats> {
        self.stats.clone()
    }

    /// The device with its thread, for a machine.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor to give.
    pub fn virtio(self) -> io::Result<Served> {
        let name = format!("disk-{}", self.name);
        Served::new(&name, Role::Device, Arc::new(self), Serve::Thread)
    }

    /// Whether the feature with number `bit` was negotiated.
    pub(super) fn has(&self, bit: u32) -> bool {
        self.negotiated.load(SeqCst) & (1 << bit) != 0
    }
}

impl Personality for Block {
    fn id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        layout::features(&self.disk)
    }

    fn negotiated(&self, features: u64) {
        self.negotiated.store(features, SeqCst);
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![layout::QUEUE_SIZE]
    }

    fn read_config(&self, offset: u32, size: u32) -> Vec<u8> {
        config::read(&self.space, offset, size)
    }

    fn handler(self: Arc<Self>, _queue: u16) -> Box<dyn Handler> {
        let notices = Notices::new(format!("disk {}", self.name));
        let mut executor = Executor::new(self, notices);
        Box::new(Chains(move |chain: &mut Chain<'_>| executor.answer(chain)))
    }
}
