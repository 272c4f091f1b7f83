// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a guest does with the device, through its registers.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use tmem_vmm::bus::BusDevice;
use tmem_vmm::event;
use tmem_vmm::virtio::mmio::{self, MmioTransport};
use tmem_vmm::virtio::vhost_user::{Counters, Kind, VhostUserDevice};
use tmem_vmm::virtio::{Interrupt, Memory};
use virtio_bindings::bindings::virtio_config::VIRTIO_CONFIG_S_NEEDS_RESET;
use virtio_bindings::bindings::virtio_mmio as register;
use virtio_bindings::bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use virtio_tmem::testing::{Driver, DriverQueue, Transport};
use virtio_tmem::wire::Config;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

/// How long anything may take before the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where the second region of memory begins.
const HIGH: u64 = 4 << 30;

/// What is read of the driver's memory by a driver of queue `index`.
fn area(index: u16) -> u64 {
    // The last one lies in the other region.
    match index {
        2 => HIGH,
        _ => (1 << 20) + u64::from(index) * Driver::<GuestMemoryMmap, Bell>::AREA,
    }
}

/// Waits until `done`.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Memory of two regions, as a machine with much memory has it.
pub(crate) fn memory() -> Memory {
    let region = |at, size: usize| {
        let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
        ftruncate(&file, size as u64).unwrap();
        (GuestAddress(at), size, Some(FileOffset::new(file, 0)))
    };
    let regions = [region(0, 32 << 20), region(HIGH, 16 << 20)];
    Arc::new(GuestMemoryMmap::from_ranges_with_files(regions).unwrap())
}

/// A guest with the device.
pub(crate) struct Guest {
    pub(crate) memory: Memory,
    pub(crate) transport: Arc<MmioTransport>,
    pub(crate) counters: Arc<Counters>,
}

/// A driver's requests on one queue.
pub(crate) type GuestDriver<'m> = Driver<'m, GuestMemoryMmap, Bell>;

impl Guest {
    pub(crate) fn new(socket: &Path, request_queues: u16) -> Self {
        Self::with(Kind::Tmem, socket, request_queues)
    }

    /// A guest with a device of this kind.
    pub(crate) fn with(kind: Kind, socket: &Path, request_queues: u16) -> Self {
        let memory = memory();
        let device = VhostUserDevice::new(kind, socket, request_queues, &memory).unwrap();
        let counters = device.counters().clone();
        let interrupt = Arc::new(Interrupt::new().unwrap());
        let transport = MmioTransport::new(Box::new(device), memory.clone(), interrupt).unwrap();
        Self {
            memory,
            transport: Arc::new(transport),
            counters,
        }
    }

    pub(crate) fn read(&self, offset: u32) -> u32 {
        let mut word = [0; 4];
        self.transport.read(offset.into(), &mut word);
        u32::from_le_bytes(word)
    }

    pub(crate) fn write(&self, offset: u32, value: u32) {
        self.transport.write(offset.into(), &value.to_le_bytes());
    }

    /// Features that the device offers.
    pub(crate) fn features(&self) -> u64 {
        let half = |select| {
            self.write(register::VIRTIO_MMIO_DEVICE_FEATURES_SEL, select);
            u64::from(self.read(register::VIRTIO_MMIO_DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    /// The configuration space, four bytes at a time.
    pub(crate) fn space<const N: usize>(&self) -> [u8; N] {
        let mut space = [0; N];
        let words = space.as_chunks_mut::<4>().0.iter_mut();
        for (word, offset) in words.zip((register::VIRTIO_MMIO_CONFIG..).step_by(4)) {
            *word = self.read(offset).to_le_bytes();
        }
        space
    }

    /// The same of virtio-tmem.
    pub(crate) fn config(&self) -> Config {
        Config::decode(&self.space())
    }

    pub(crate) fn reset(&self) {
        self.write(register::VIRTIO_MMIO_STATUS, 0);
        assert_eq!(self.read(register::VIRTIO_MMIO_STATUS), 0);
    }

    pub(crate) fn needs_reset(&self) -> bool {
        self.read(register::VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET != 0
    }

    /// Makes the driver ready with as many queues as the device shows, event
    /// queue first.
    pub(crate) fn start(&self) -> Vec<DriverQueue<'_, GuestMemoryMmap>> {
        let config = self.config();
        assert!(config.is_supported(), "{config:?}");
        let queues = u16::try_from(config.request_queues + 1).unwrap();
        self.start_as(self.features(), queues)
    }

    /// Makes a driver ready that accepts `features`, with so many queues.
    pub(crate) fn start_as(
        &self,
        features: u64,
        queues: u16,
    ) -> Vec<DriverQueue<'_, GuestMemoryMmap>> {
        for status in [1, 3] {
            self.write(register::VIRTIO_MMIO_STATUS, status);
        }
        for half in 0..2 {
            self.write(register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
            let features = features >> (32 * half);
            self.write(register::VIRTIO_MMIO_DRIVER_FEATURES, features as u32);
        }
        self.write(register::VIRTIO_MMIO_STATUS, 11);
        assert_eq!(self.read(register::VIRTIO_MMIO_STATUS) & 8, 8);
        let queues = (0..queues.into()).map(|index| self.start_queue(index));
        let queues = queues.collect();
        self.write(register::VIRTIO_MMIO_STATUS, 15);
        queues
    }

    fn start_queue(&self, index: u32) -> DriverQueue<'_, GuestMemoryMmap> {
        self.write(register::VIRTIO_MMIO_QUEUE_SEL, index);
        let size = self.read(register::VIRTIO_MMIO_QUEUE_NUM_MAX);
        self.write(register::VIRTIO_MMIO_QUEUE_NUM, size);
        let size = u16::try_from(size).unwrap();
        let footprint = DriverQueue::<GuestMemoryMmap>::footprint(size).next_multiple_of(4096);
        let queue = DriverQueue::new(&*self.memory, footprint * u64::from(index), size, true);
        for (low, address) in [
            (register::VIRTIO_MMIO_QUEUE_DESC_LOW, queue.desc_table()),
            (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue.avail_ring()),
            (register::VIRTIO_MMIO_QUEUE_USED_LOW, queue.used_ring()),
        ] {
            self.write(low, address as u32);
            self.write(low + 4, (address >> 32) as u32);
        }
        self.write(register::VIRTIO_MMIO_QUEUE_READY, 1);
        queue
    }

    /// A driver on `queue`, number `index`.
    pub(crate) fn driver<'m>(
        &self,
        queue: DriverQueue<'m, GuestMemoryMmap>,
        memory: &'m GuestMemoryMmap,
        index: u16,
    ) -> GuestDriver<'m> {
        Driver::new(memory, queue, area(index), self.bell(index))
    }

    /// Makes the driver ready and gives its first request queue.
    pub(crate) fn first_driver(&self) -> GuestDriver<'_> {
        let queue = self.start().swap_remove(1);
        self.driver(queue, &self.memory, 1)
    }

    pub(crate) fn bell(&self, index: u16) -> Bell {
        Bell {
            transport: self.transport.clone(),
            index,
        }
    }

    /// Whether the guest was interrupted; waits for it.
    pub(crate) fn is_interrupted_within(&self, patience: Duration) -> bool {
        let line = self.transport.interrupt().line();
        let fd = event::fd(line);
        let patience = Timespec::try_from(patience).unwrap();
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)).unwrap() == 1
            && event::take(line)
    }

    /// Waits until the device asks to be reset, as a driver hears of it.
    pub(crate) fn expect_needs_reset(&self) {
        until("the device asks to be reset", || {
            assert!(self.is_interrupted_within(PATIENCE), "no interrupt");
            let reasons = self.read(register::VIRTIO_MMIO_INTERRUPT_STATUS);
            self.write(register::VIRTIO_MMIO_INTERRUPT_ACK, reasons);
            reasons & VIRTIO_MMIO_INT_CONFIG != 0 && self.needs_reset()
        });
    }

    pub(crate) fn until_connected(&self, connections: u64) {
        until("the daemon is connected", || {
            self.counters.is_connected() && self.counters.connections() >= connections
        });
    }

    pub(crate) fn until_lost(&self) {
        until("the daemon is lost", || !self.counters.is_connected());
    }
}

/// How a driver hears of its queue.
pub(crate) struct Bell {
    transport: Arc<MmioTransport>,
    index: u16,
}

impl Transport for Bell {
    fn kick(&mut self) {
        let index = u32::from(self.index);
        self.transport.write(mmio::NOTIFY, &index.to_le_bytes());
    }

    fn wait(&mut self) {
        let line = self.transport.interrupt().line();
        let fd = event::fd(line);
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(ready, 1, "the device did not interrupt in time");
        event::take(line);
        let mut reasons = [0; 4];
        let status = u64::from(register::VIRTIO_MMIO_INTERRUPT_STATUS);
        self.transport.read(status, &mut reasons);
        let reasons = u32::from_le_bytes(reasons);
        assert_eq!(reasons & VIRTIO_MMIO_INT_VRING, VIRTIO_MMIO_INT_VRING);
    }
}
