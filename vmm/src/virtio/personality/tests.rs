// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A personality that is not virtio-tmem: a disk of zeroes, much as virtio-blk has it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

use tmem_host::personality::{GoOn, Handler, Step};
use virtio_bindings::bindings::virtio_mmio as register;
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_queue::QueueOwnedT;
use virtio_tmem::device::wants_notification;
use vm_memory::{Bytes, GuestMemoryMmap};

use super::*;
use crate::bus::BusDevice;
use crate::virtio::testing::{Guest, memory};

const BOTH: [Serve; 2] = [Serve::Vcpu, Serve::Thread];

/// VIRTIO_BLK_F_CONFIG_WCE (virtio 1.2, section 5.2.3).
const FEATURE: u64 = 1 << 11;

/// The driver may write this byte of the configuration space.
const WRITABLE: u32 = 32;

#[derive(Default)]
struct Zeroes {
    negotiated: AtomicU64,
    writeback: AtomicU8,
}

impl Personality for Zeroes {
    fn id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        FEATURE
    }

    fn negotiated(&self, features: u64) {
        self.negotiated.store(features, SeqCst);
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![64, 1024]
    }

    fn read_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let mut space = [0; 64];
        space[0] = 7;
        space[WRITABLE as usize] = self.writeback.load(SeqCst);
        let byte = |at: u32| space.get(at as usize).copied().unwrap_or_default();
        (offset..offset + size).map(byte).collect()
    }

    fn write_config(&self, offset: u32, data: &[u8]) {
        if let (WRITABLE, [byte]) = (offset, data) {
            self.writeback.store(*byte, SeqCst);
        }
    }

    fn handler(self: Arc<Self>, queue: u16) -> Box<dyn Handler> {
        Box::new(Reader { queue })
    }
}

struct Reader {
    queue: u16,
}

impl Handler for Reader {
    fn step(
        &mut self,
        memory: &GuestMemoryMmap,
        queue: &mut virtio_queue::Queue,
        _: GoOn<'_>,
    ) -> Step {
        let Some(chain) = queue.iter(memory).ok().and_then(|mut chains| chains.next()) else {
            return Step::Idle;
        };
        let head = chain.head_index();
        let mut written = 0;
        for buffer in chain.writable() {
            let data = vec![u8::try_from(self.queue).unwrap(); buffer.len() as usize];
            memory.write_slice(&data, buffer.addr()).unwrap();
            written += buffer.len();
        }
        virtio_queue::QueueT::add_used(queue, memory, head, written).unwrap();
        Step::Used {
            notify: wants_notification(memory, queue),
        }
    }
}

#[test]
fn a_disk_is_served_as_virtio_tmem_is() {
    for serve in BOTH {
        let memory = memory();
        let disk = Arc::<Zeroes>::default();
        let device = Served::new("disk", Role::Device, disk.clone(), serve).unwrap();
        let guest = Guest::new(&memory, device);
        assert_eq!(guest.read(register::VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_BLOCK);
        assert_eq!(guest.features(), COMMON_FEATURES | FEATURE);
        assert_eq!(guest.negotiate(guest.features()), 0xb);
        let mut queues = [0, 1].map(|index| guest.queue(index, 64, true));
        assert_eq!(guest.run(), 0xf);
        for (index, queue) in (0..).zip(&mut queues) {
            let text = guest.put(b"read, please");
            let space = guest.space(512);
            let head = queue.add(&[text], &[space]).unwrap();
            guest.kick(index, queue);
            let used = guest.used(queue);
            assert_eq!((used.head, used.len), (head, 512));
            let expected = vec![u8::try_from(index).unwrap(); 512];
            assert_eq!(guest.bytes(&[space]), expected);
        }
        assert_eq!(
            disk.negotiated.load(SeqCst),
            COMMON_FEATURES | FEATURE,
            "the driver's choice is told"
        );
    }
}

#[test]
fn a_driver_may_write_to_the_configuration_space() {
    let memory = memory();
    let disk = Arc::<Zeroes>::default();
    let device = Served::new("disk", Role::Device, disk, Serve::Vcpu).unwrap();
    let guest = Guest::new(&memory, device);
    guest.negotiate(guest.features());
    let at = u64::from(register::VIRTIO_MMIO_CONFIG + WRITABLE);
    let read = || {
        let mut byte = [0xff];
        guest.transport.read(at, &mut byte);
        byte[0]
    };
    assert_eq!(read(), 0);
    guest.transport.write(at, &[1]);
    assert_eq!(read(), 1);
}

#[test]
fn queues_are_as_large_as_they_are_but_for_the_most() {
    let memory = memory();
    let disk = Arc::<Zeroes>::default();
    let guest = Guest::new(
        &memory,
        Served::new("disk", Role::Device, disk, Serve::Thread).unwrap(),
    );
    for (index, size) in [(0, 64), (1, u32::from(QUEUE_SIZE)), (2, 0)] {
        guest.write(register::VIRTIO_MMIO_QUEUE_SEL, index);
        assert_eq!(guest.read(register::VIRTIO_MMIO_QUEUE_NUM_MAX), size);
    }
}
