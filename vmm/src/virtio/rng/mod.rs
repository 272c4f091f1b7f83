// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-rng: random bytes of the host's kernel (virtio 1.2, section 5.4).

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use rustix::rand::GetRandomFlags;
use tmem_host::personality::{Handler, Personality};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

use super::counters::counters;
use super::notice::Notices;
use super::personality::{Serve, Served};
use super::{Chain, Chains, config, total};
use crate::confine::Role;

/// Descriptors of the queue.
const QUEUE_SIZE: u16 = 64;

/// Most bytes that a request gets, however many it has room for: the host's
/// kernel needs some microseconds for each kilobyte.
const MAX_BYTES: usize = 4096;

counters! {
    /// What the device counts.
    pub struct RngStats {
        requests: "Requests that got random bytes.",
        bytes: "Bytes that they got.",
        failed: "Requests that got none: without room for any, or the host had none.",
    }
}

/// A virtio-rng device.
#[derive(Debug, Default)]
pub struct Rng {
    stats: Arc<RngStats>,
}

impl Rng {
    /// What the device counts.
    pub fn stats(&self) -> Arc<RngStats> {
        self.stats.clone()
    }

    /// The device with its thread, for a machine.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor to give.
    pub fn virtio(self) -> io::Result<Served> {
        Served::new("rng", Role::Device, Arc::new(self), Serve::Thread)
    }
}

impl Personality for Rng {
    fn id(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    /// There is no configuration space.
    fn read_config(&self, _offset: u32, size: u32) -> Vec<u8> {
        config::read(&[], 0, size)
    }

    fn handler(self: Arc<Self>, _queue: u16) -> Box<dyn Handler> {
        let mut filler = Filler {
            stats: self.stats(),
            notices: Notices::new("rng".into()),
        };
        Box::new(Chains(move |chain: &mut Chain<'_>| filler.fill(chain)))
    }
}

/// Fills requests.
struct Filler {
    stats: Arc<RngStats>,
    notices: Notices,
}

impl Filler {
    fn fill(&mut self, chain: &mut Chain<'_>) -> u32 {
        let wanted = usize::try_from(total(&chain.writable)).unwrap_or(MAX_BYTES);
        let mut bytes = [0; MAX_BYTES];
        let (random, _) = bytes.split_at_mut(wanted.min(MAX_BYTES));
        // The system call itself: libraries around it may want to open files.
        let random = match rustix::rand::getrandom(&mut *random, GetRandomFlags::empty()) {
            Ok(count) => random.get(..count).unwrap_or_default(),
            Err(error) => {
                self.notices.failed("getting random bytes", error);
                self.stats.failed.add(1);
                return 0;
            }
        };
        let written = chain.write(random);
        self.stats.bytes.add(written as u64);
        if written == 0 {
            self.stats.failed.add(1);
        } else {
            self.stats.requests.add(1);
        }
        // At most MAX_BYTES.
        u32::try_from(written).unwrap_or_default()
    }
}
