// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The transport: a device's registers in the guest's address space
//! (virtio 1.2, section 4.2, version 2).

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_bindings::bindings::virtio_config::{
    VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::bindings::virtio_mmio as register;
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Activation, ActiveQueue, Doorbell, Interrupt, Memory, VirtioDevice};
use crate::bus::BusDevice;
use crate::event;

/// Bytes of address space that a device takes.
pub const SIZE: u64 = 0x1000;

/// Offset of the register that the driver writes a queue's index to.
pub const NOTIFY: u64 = register::VIRTIO_MMIO_QUEUE_NOTIFY as u64;

/// Reads of the registers that say what is there.
const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"TMEM");

/// What a driver may set in the status register.
const STATUS_BITS: u32 = 0x8f;

/// Where the configuration space begins.
const CONFIG: u64 = register::VIRTIO_MMIO_CONFIG as u64;

/// Length and base of a shared memory region that does not exist.
const NO_REGION: u32 = u32::MAX;

/// A device with its registers.
pub struct MmioTransport {
    registers: Mutex<Registers>,
    interrupt: Arc<Interrupt>,
    kicks: Vec<Arc<EventFd>>,
    doorbell: Option<Arc<dyn Doorbell>>,
}

struct Registers {
    device: Box<dyn VirtioDevice>,
    memory: Memory,
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: usize,
    queues: Vec<Queue>,
}

impl MmioTransport {
    /// Gives `device` its registers.
    ///
    /// # Errors
    /// When the process is out of file descriptors, or a queue size of the
    /// device is none.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: Memory,
        interrupt: Arc<Interrupt>,
    ) -> io::Result<Self> {
        let sizes = device.queue_sizes();
        let queues: Result<Vec<_>, _> = sizes.iter().map(|size| Queue::new(*size)).collect();
        let queues = queues.map_err(|error| io::Error::other(error.to_string()))?;
        let kick = |_: &u16| Ok(Arc::new(EventFd::new(EFD_NONBLOCK)?));
        let kicks: io::Result<Vec<_>> = sizes.iter().map(kick).collect();
        Ok(Self {
            doorbell: device.doorbell(),
            registers: Mutex::new(Registers {
                device,
                memory,
                status: 0,
                device_features_select: 0,
                driver_features_select: 0,
                driver_features: 0,
                queue_select: 0,
                queues,
            }),
            interrupt,
            kicks: kicks?,
        })
    }

    /// The interrupt line.
    pub fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }

    /// The events that KVM may set itself when the driver writes a queue's
    /// index to [`NOTIFY`], by that index. None if a [`Doorbell`] wants to be
    /// called instead.
    pub fn kicks(&self) -> &[Arc<EventFd>] {
        if self.doorbell.is_some() {
            return &[];
        }
        &self.kicks
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A write to [`NOTIFY`]. Takes no lock: a doorbell may work for long.
    fn notify(&self, index: u32) {
        let Ok(index) = u16::try_from(index) else {
            return;
        };
        match &self.doorbell {
            Some(doorbell) => doorbell.ring(index),
            None => {
                if let Some(kick) = self.kicks.get(usize::from(index)) {
                    event::set(kick);
                }
            }
        }
    }

    fn write_register(&self, offset: u64, value: u32) {
        let Ok(offset) = u32::try_from(offset) else {
            return;
        };
        match offset {
            register::VIRTIO_MMIO_QUEUE_NOTIFY => self.notify(value),
            register::VIRTIO_MMIO_INTERRUPT_ACK => self.interrupt.acknowledge(value),
            register::VIRTIO_MMIO_STATUS if value == 0 => {
                let mut registers = self.lock();
                registers.reset();
                self.interrupt.reset();
            }
            register::VIRTIO_MMIO_STATUS => self.set_status(value),
            _ => self.lock().write(offset, value),
        }
    }

    fn set_status(&self, value: u32) {
        let mut registers = self.lock();
        let was_running = registers.is_running();
        registers.set_status(value);
        if registers.is_running() && !was_running {
            match registers.activation(&self.kicks, &self.interrupt) {
                Some(activation) => registers.device.activate(activation),
                // The driver's rings make no sense.
                None => self.interrupt.needs_reset(),
            }
        }
    }
}

impl BusDevice for MmioTransport {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if offset >= CONFIG {
            self.lock().device.read_config(offset - CONFIG, data);
            return;
        }
        // Registers are 32 bits wide and aligned; anything else reads as zero.
        if offset.is_multiple_of(4)
            && let Ok(word) = <&mut [u8; 4]>::try_from(data)
            && let Ok(offset) = u32::try_from(offset)
        {
            let value = match offset {
                register::VIRTIO_MMIO_INTERRUPT_STATUS => self.interrupt.status(),
                register::VIRTIO_MMIO_CONFIG_GENERATION => self.interrupt.generation(),
                _ => {
                    let registers = self.lock();
                    registers.read(offset, &self.interrupt)
                }
            };
            *word = value.to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if offset >= CONFIG {
            self.lock().device.write_config(offset - CONFIG, data);
        } else if offset.is_multiple_of(4)
            && let Ok(word) = <[u8; 4]>::try_from(data)
        {
            self.write_register(offset, u32::from_le_bytes(word));
        }
    }
}

impl Registers {
    /// DRIVER_OK after FEATURES_OK.
    fn is_running(&self) -> bool {
        let running = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
        self.status & running == running
    }

    fn read(&self, offset: u32, interrupt: &Interrupt) -> u32 {
        match offset {
            register::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            register::VIRTIO_MMIO_VERSION => VERSION,
            register::VIRTIO_MMIO_DEVICE_ID => self.device.id(),
            register::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            register::VIRTIO_MMIO_DEVICE_FEATURES => {
                half(self.device.features(), self.device_features_select)
            }
            register::VIRTIO_MMIO_QUEUE_NUM_MAX => {
                self.selected().map_or(0, |queue| queue.max_size().into())
            }
            register::VIRTIO_MMIO_QUEUE_READY => {
                self.selected().map_or(0, |queue| queue.ready().into())
            }
            register::VIRTIO_MMIO_STATUS if interrupt.is_reset_needed() => {
                self.status | VIRTIO_CONFIG_S_NEEDS_RESET
            }
            register::VIRTIO_MMIO_STATUS => self.status,
            register::VIRTIO_MMIO_SHM_LEN_LOW
            | register::VIRTIO_MMIO_SHM_LEN_HIGH
            | register::VIRTIO_MMIO_SHM_BASE_LOW
            | register::VIRTIO_MMIO_SHM_BASE_HIGH => NO_REGION,
            _ => 0,
        }
    }

    fn write(&mut self, offset: u32, value: u32) {
        match offset {
            register::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_features_select = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_features_select = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES => self.set_driver_features(value),
            // An index without a queue selects none.
            register::VIRTIO_MMIO_QUEUE_SEL => {
                self.queue_select = usize::try_from(value).unwrap_or(usize::MAX);
            }
            _ => self.write_queue(offset, value),
        }
    }

    fn set_driver_features(&mut self, value: u32) {
        if self.status & VIRTIO_CONFIG_S_FEATURES_OK != 0 {
            return;
        }
        let shift = match self.driver_features_select {
            0 => 0,
            1 => 32,
            _ => return,
        };
        let mask = u64::from(u32::MAX) << shift;
        self.driver_features = self.driver_features & !mask | u64::from(value) << shift;
    }

    /// Status bits are only ever added, until a reset.
    fn set_status(&mut self, value: u32) {
        let mut added = value & STATUS_BITS;
        let version_1 = 1 << VIRTIO_F_VERSION_1;
        // What a device offers may not change any more once it was asked for it.
        let acceptable = || {
            self.driver_features & !self.device.features() == 0
                && self.driver_features & version_1 != 0
        };
        let is_new = VIRTIO_CONFIG_S_FEATURES_OK & added & !self.status != 0;
        if is_new && !acceptable() {
            added &= !VIRTIO_CONFIG_S_FEATURES_OK;
        }
        self.status |= added;
    }

    fn selected(&self) -> Option<&Queue> {
        self.queues.get(self.queue_select)
    }

    /// Registers of the selected queue, which is the device's once it runs.
    fn write_queue(&mut self, offset: u32, value: u32) {
        if self.is_running() {
            return;
        }
        let Some(queue) = self.queues.get_mut(self.queue_select) else {
            return;
        };
        let address = |now: u64, high: bool| {
            let value = u64::from(value);
            GuestAddress(match high {
                false => now & !u64::from(u32::MAX) | value,
                true => now & u64::from(u32::MAX) | value << 32,
            })
        };
        // A size or an address that cannot be is not taken; the driver finds
        // out when the device does not start.
        let _ = match offset {
            register::VIRTIO_MMIO_QUEUE_NUM => {
                queue.try_set_size(u16::try_from(value).unwrap_or_default())
            }
            register::VIRTIO_MMIO_QUEUE_READY => {
                queue.set_ready(value == 1);
                Ok(())
            }
            register::VIRTIO_MMIO_QUEUE_DESC_LOW | register::VIRTIO_MMIO_QUEUE_DESC_HIGH => queue
                .try_set_desc_table_address(address(
                    queue.desc_table(),
                    offset == register::VIRTIO_MMIO_QUEUE_DESC_HIGH,
                )),
            register::VIRTIO_MMIO_QUEUE_AVAIL_LOW | register::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => queue
                .try_set_avail_ring_address(address(
                    queue.avail_ring(),
                    offset == register::VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
                )),
            register::VIRTIO_MMIO_QUEUE_USED_LOW | register::VIRTIO_MMIO_QUEUE_USED_HIGH => queue
                .try_set_used_ring_address(address(
                    queue.used_ring(),
                    offset == register::VIRTIO_MMIO_QUEUE_USED_HIGH,
                )),
            _ => Ok(()),
        };
    }

    /// The queues that are ready; `None` if one of them is not in memory.
    fn activation(
        &mut self,
        kicks: &[Arc<EventFd>],
        interrupt: &Arc<Interrupt>,
    ) -> Option<Activation> {
        let mut active = Vec::new();
        for (index, (queue, kick)) in (0u16..).zip(self.queues.iter_mut().zip(kicks)) {
            if !queue.ready() {
                continue;
            }
            if !queue.is_valid(&*self.memory) {
                return None;
            }
            let state = queue.state();
            let mut queue = Queue::try_from(state).ok()?;
            queue.set_event_idx(self.driver_features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0);
            active.push(ActiveQueue {
                index,
                queue,
                kick: kick.clone(),
            });
        }
        Some(Activation {
            memory: self.memory.clone(),
            features: self.driver_features,
            queues: active,
            interrupt: interrupt.clone(),
        })
    }

    fn reset(&mut self) {
        self.device.reset();
        self.status = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.driver_features = 0;
        self.queue_select = 0;
        for queue in &mut self.queues {
            queue.reset();
        }
    }
}

/// The low (0) or high (1) half; there are no features beyond.
fn half(value: u64, select: u32) -> u32 {
    let shifted = match select {
        0 => value,
        1 => value >> 32,
        _ => 0,
    };
    u32::try_from(shifted & u64::from(u32::MAX)).unwrap_or_default()
}
