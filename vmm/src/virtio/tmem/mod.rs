// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-tmem with the store in this process.
//!
//! A guest waits for most of its requests, so by default they are served on
//! the thread of the vCPU that makes them: no other thread has to wake first.
//! [`Serve::Thread`] gives each queue a thread instead, which frees the vCPU.

mod lanes;
mod options;
#[cfg(test)]
mod tests;

pub use options::{Serve, Tmem, TmemOptions};

use std::io;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tmem_cli::size;
use tmem_store::{ClientConfig, Compressor, Store, StoreConfig};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_IN_ORDER;
use virtio_tmem::device::{Device, DeviceConfig, MAX_POOLS};
use virtio_tmem::wire;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Activation, Backend, COMMON_FEATURES, Doorbell, Source, VirtioDevice, Worker};
use crate::confine::{self, Role};
use crate::event;
use lanes::Lanes;

/// Descriptors of each queue: what drivers use of it is 256 with other VMMs
/// too.
const QUEUE_SIZE: u16 = 256;

/// What the store is called in its figures: it has one client.
const NAME: &str = "guest";

/// A store for one guest, and the device in front of it.
pub struct TmemInProcess {
    device: Arc<Device>,
    store: Store,
    /// Compresses in the background; ended when this is dropped.
    _compressor: Compressor,
}

impl TmemInProcess {
    /// Makes the store.
    ///
    /// # Errors
    /// A sentence about a limit that cannot be, or what the system lacks.
    pub fn new(options: &TmemOptions) -> Result<Self> {
        let limit = limit(options, tmem_host::memory::of_host())?;
        let store = Store::new(StoreConfig::with_limit(limit))?;
        let compressor = store
            .start_compressor_with(|| confine::enter(Role::Store))
            .context("cannot start a thread for the store")?;
        let client = store.add_client(ClientConfig {
            name: NAME.into(),
            identity: None,
            quota: options.quota,
            max_pools: MAX_POOLS,
            weight: ClientConfig::WEIGHT,
        })?;
        client.set_compression(options.codec);
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).context("cannot get random numbers")?;
        let config = DeviceConfig {
            name: NAME.into(),
            instance,
            swap_pages: options.swap_size / wire::PAGE_SIZE as u64,
            request_queues: options.queues.into(),
        };
        let device = Device::new(client, config)
            .with_give_back(options.give_back)
            .with_report(Box::new(|line| log::warn!("{line}")));
        Ok(Self {
            device: Arc::new(device),
            store,
            _compressor: compressor,
        })
    }

    /// The device: quota, figures.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The device with its queues and threads, for a machine.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor to give.
    pub fn virtio(&self, serve: Serve) -> io::Result<TmemVirtio> {
        TmemVirtio::new(self.device.clone(), serve)
    }
}

/// Most bytes that the store takes, on a host with `host` bytes of memory.
fn limit(options: &TmemOptions, host: u64) -> Result<u64> {
    let shown = size::show(host);
    ensure!(
        options.quota <= host,
        "a quota of {} is more than the host's memory of {shown}; give less with --tmem quota=",
        size::show(options.quota)
    );
    let Some(limit) = options.memory_limit else {
        return Ok(options.quota.saturating_mul(2).min(host));
    };
    ensure!(
        limit <= host,
        "a memory limit of {} is more than the host's memory of {shown}; give less with --tmem \
         quota=…,memory-limit=",
        size::show(limit)
    );
    Ok(limit)
}

/// The device as the transport sees it.
#[derive(Debug)]
pub struct TmemVirtio {
    device: Arc<Device>,
    lanes: Arc<Lanes>,
    serve: Serve,
    workers: Vec<Worker>,
}

impl TmemVirtio {
    fn new(device: Arc<Device>, serve: Serve) -> io::Result<Self> {
        let queues = queues(&device);
        let lanes = Arc::new(Lanes::new(device.clone(), queues));
        let news = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let raised = news.clone();
        device
            .events()
            .set_wake(Some(Box::new(move || event::set(&raised))));
        let per_thread: Vec<Vec<u16>> = match serve {
            // One thread for news, and for what a vCPU leaves because it would
            // be busy with it for too long.
            Serve::Vcpu => vec![(0..queues).collect()],
            Serve::Thread => (0..queues).map(|queue| vec![queue]).collect(),
        };
        let mut workers = Vec::new();
        for (nth, queues) in per_thread.into_iter().enumerate() {
            let backend = LaneBackend {
                news: queues.contains(&wire::EVENT_QUEUE).then(|| news.clone()),
                queues,
                lanes: lanes.clone(),
                kicks: Vec::new(),
            };
            workers.push(Worker::new(&format!("tmem{nth}"), Role::Store, backend)?);
        }
        Ok(Self {
            device,
            lanes,
            serve,
            workers,
        })
    }
}

/// The event queue and the request queues.
fn queues(device: &Device) -> u16 {
    u16::try_from(device.config().request_queues)
        .unwrap_or(u16::MAX)
        .saturating_add(wire::FIRST_REQUEST_QUEUE)
}

impl VirtioDevice for TmemVirtio {
    fn id(&self) -> u32 {
        wire::DEVICE_ID
    }

    fn features(&self) -> u64 {
        COMMON_FEATURES | 1 << VIRTIO_F_IN_ORDER
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; queues(&self.device).into()]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        let len = u32::try_from(data.len()).unwrap_or_default();
        data.copy_from_slice(&self.device.read_config(offset, len));
    }

    fn activate(&mut self, mut activation: Activation) {
        let queues = std::mem::take(&mut activation.queues);
        self.lanes.open(&activation, queues);
        for worker in &self.workers {
            worker.start(Activation {
                memory: activation.memory.clone(),
                features: activation.features,
                queues: Vec::new(),
                interrupt: activation.interrupt.clone(),
            });
        }
    }

    fn reset(&mut self) {
        self.lanes.begin_to_close();
        for worker in &self.workers {
            worker.stop();
        }
        self.lanes.close();
    }

    fn doorbell(&self) -> Option<Arc<dyn Doorbell>> {
        match self.serve {
            Serve::Vcpu => Some(self.lanes.clone()),
            Serve::Thread => None,
        }
    }
}

/// Serves some of the lanes on a thread.
struct LaneBackend {
    lanes: Arc<Lanes>,
    queues: Vec<u16>,
    /// Notifications, beside their queues' indexes.
    kicks: Vec<(u16, Arc<EventFd>)>,
    news: Option<Arc<EventFd>>,
}

/// The number of the source that says that there is news for the driver.
const NEWS: usize = usize::MAX;

impl Backend for LaneBackend {
    fn start(&mut self, _: Activation) {
        self.kicks = self
            .queues
            .iter()
            .filter_map(|queue| Some((*queue, self.lanes.kick(*queue)?)))
            .collect();
        // What came before the driver was ready, and news that it has not got.
        for queue in &self.queues {
            self.lanes.ring(*queue);
        }
    }

    fn stop(&mut self) {
        self.kicks.clear();
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let kicks = self.kicks.iter().map(|(queue, kick)| Source {
            file: event::fd(kick),
            number: usize::from(*queue),
        });
        let news = self.news.as_deref().map(|news| Source {
            file: event::fd(news),
            number: NEWS,
        });
        kicks.chain(news).collect()
    }

    fn ready(&mut self, number: usize) {
        if number == NEWS {
            if let Some(news) = &self.news {
                event::take(news);
            }
            self.lanes.ring(wire::EVENT_QUEUE);
            return;
        }
        for (queue, kick) in &self.kicks {
            if usize::from(*queue) == number {
                event::take(kick);
                self.lanes.ring(*queue);
            }
        }
    }
}
