// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver for devices' tests: what a guest does, through the registers.

pub(crate) mod hostile;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use virtio_bindings::bindings::virtio_mmio as register;
use virtio_tmem::testing::{DriverQueue, Span, Used};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::mmio::MmioTransport;
use super::{Interrupt, Memory, VirtioDevice};
use crate::bus::BusDevice;
use crate::event;

/// Bytes of each of the two regions of a guest's memory.
pub(crate) const REGION: u64 = 8 << 20;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two regions, one right behind the other.
pub(crate) fn memory() -> Memory {
    let len = usize::try_from(REGION).unwrap();
    let ranges = [(GuestAddress(0), len), (GuestAddress(REGION), len)];
    Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap())
}

pub(crate) type Queue<'m> = DriverQueue<'m, GuestMemoryMmap>;

/// A guest with one device.
pub(crate) struct Guest<'m> {
    memory: &'m Memory,
    pub(crate) transport: MmioTransport,
    /// Where the next buffer goes.
    free: Cell<u64>,
}

impl<'m> Guest<'m> {
    pub(crate) fn new(memory: &'m Memory, device: impl VirtioDevice + 'static) -> Self {
        let interrupt = Arc::new(Interrupt::new().unwrap());
        Self {
            memory,
            transport: MmioTransport::new(Box::new(device), memory.clone(), interrupt).unwrap(),
            free: Cell::new(0x1000),
        }
    }

    pub(crate) fn read(&self, register: u32) -> u32 {
        let mut data = [0; 4];
        self.transport.read(register.into(), &mut data);
        u32::from_le_bytes(data)
    }

    pub(crate) fn write(&self, register: u32, value: u32) {
        self.transport.write(register.into(), &value.to_le_bytes());
    }

    /// The features that the device offers.
    pub(crate) fn features(&self) -> u64 {
        let half = |select| {
            self.write(register::VIRTIO_MMIO_DEVICE_FEATURES_SEL, select);
            u64::from(self.read(register::VIRTIO_MMIO_DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    /// Resets the device, then negotiates `features`; the status afterwards.
    pub(crate) fn negotiate(&self, features: u64) -> u32 {
        for status in [0, 1, 3] {
            self.write(register::VIRTIO_MMIO_STATUS, status);
        }
        for (select, half) in [(0, features), (1, features >> 32)] {
            self.write(register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
            let half = u32::try_from(half & u64::from(u32::MAX)).unwrap();
            self.write(register::VIRTIO_MMIO_DRIVER_FEATURES, half);
        }
        self.write(register::VIRTIO_MMIO_STATUS, 0xb);
        self.read(register::VIRTIO_MMIO_STATUS)
    }

    /// Makes a queue and tells the device where it is.
    pub(crate) fn queue(&self, index: u32, size: u16, event_idx: bool) -> Queue<'m> {
        let footprint = Queue::footprint(size).next_multiple_of(16);
        let base = self.take(footprint.next_multiple_of(0x1000));
        let queue = Queue::new(&**self.memory, base, size, event_idx);
        self.write(register::VIRTIO_MMIO_QUEUE_SEL, index);
        self.write(register::VIRTIO_MMIO_QUEUE_NUM, size.into());
        let addresses = [
            (register::VIRTIO_MMIO_QUEUE_DESC_LOW, queue.desc_table()),
            (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue.avail_ring()),
            (register::VIRTIO_MMIO_QUEUE_USED_LOW, queue.used_ring()),
        ];
        for (low, address) in addresses {
            self.write(low, u32::try_from(address).unwrap());
            self.write(low + 4, 0);
        }
        self.write(register::VIRTIO_MMIO_QUEUE_READY, 1);
        queue
    }

    /// The driver is ready; the status afterwards.
    pub(crate) fn run(&self) -> u32 {
        self.write(register::VIRTIO_MMIO_STATUS, 0xf);
        self.read(register::VIRTIO_MMIO_STATUS)
    }

    pub(crate) fn reset(&self) {
        self.write(register::VIRTIO_MMIO_STATUS, 0);
    }

    /// Notifies the device of what was added to `queue`, as a driver does: if
    /// it wants to hear of it.
    pub(crate) fn kick(&self, index: u32, queue: &mut Queue<'_>) {
        if queue.needs_kick() {
            self.write(register::VIRTIO_MMIO_QUEUE_NOTIFY, index);
        }
    }

    /// The next buffer that the device uses; waits for its interrupt.
    pub(crate) fn used(&self, queue: &mut Queue<'_>) -> Used {
        loop {
            if let Some(used) = queue.pop_used() {
                return used;
            }
            self.interrupted();
        }
    }

    /// Waits for an interrupt; gives its reasons and acknowledges them.
    pub(crate) fn interrupted(&self) -> u32 {
        let line = self.transport.interrupt().line();
        assert!(is_set(line, PATIENCE), "the device did not interrupt");
        event::take(line);
        let reasons = self.read(register::VIRTIO_MMIO_INTERRUPT_STATUS);
        self.write(register::VIRTIO_MMIO_INTERRUPT_ACK, reasons);
        reasons
    }

    /// Notifies the device of a queue, and waits until it has begun with it.
    pub(crate) fn kick_through(&self, index: u32) {
        self.write(register::VIRTIO_MMIO_QUEUE_NOTIFY, index);
        let Some(kick) = self.transport.kicks().get(index as usize) else {
            return;
        };
        let began = Instant::now();
        while is_set(kick, Duration::ZERO) {
            assert!(began.elapsed() < PATIENCE, "the device is not served");
            std::thread::yield_now();
        }
    }

    fn take(&self, len: u64) -> u64 {
        let at = self.free.get();
        self.free.set(at + len);
        assert!(self.free.get() <= 2 * REGION, "memory is used up");
        at
    }

    /// A buffer of `len` bytes, filled with `0xee`.
    pub(crate) fn space(&self, len: u32) -> Span {
        let addr = self.take(len.into());
        let span = Span { addr, len };
        self.set(span, &vec![0xee; usize::try_from(len).unwrap()]);
        span
    }

    /// A buffer with these bytes.
    pub(crate) fn put(&self, bytes: &[u8]) -> Span {
        let span = self.space(u32::try_from(bytes.len()).unwrap());
        self.set(span, bytes);
        span
    }

    fn set(&self, span: Span, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(span.addr))
            .unwrap();
    }

    /// What is in these buffers.
    pub(crate) fn bytes(&self, spans: &[Span]) -> Vec<u8> {
        let mut all = Vec::new();
        for span in spans {
            let mut bytes = vec![0; usize::try_from(span.len).unwrap()];
            self.memory
                .read_slice(&mut bytes, GuestAddress(span.addr))
                .unwrap();
            all.append(&mut bytes);
        }
        all
    }

    /// Where the next buffer will go.
    pub(crate) fn mark(&self) -> u64 {
        self.free.get()
    }

    /// Lets the next buffer go to `addr`.
    pub(crate) fn seek(&self, addr: u64) {
        self.free.set(addr);
    }
}

/// Whether `event` is set within `patience`.
fn is_set(event: &EventFd, patience: Duration) -> bool {
    let file = event::fd(event);
    let mut fds = [PollFd::new(&file, PollFlags::IN)];
    poll(&mut fds, Some(&patience.try_into().unwrap())).unwrap() == 1
}

/// `span` cut into buffers of these lengths, and the rest in one more.
pub(crate) fn cut(span: Span, lengths: &[u32]) -> Vec<Span> {
    let mut rest = span;
    let mut parts = Vec::new();
    for len in lengths {
        let len = (*len).min(rest.len);
        parts.push(Span { len, ..rest });
        rest.addr += u64::from(len);
        rest.len -= len;
    }
    if rest.len > 0 {
        parts.push(rest);
    }
    parts
}
