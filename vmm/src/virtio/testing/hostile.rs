// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Drivers that mean harm.

use proptest::collection::vec;
use proptest::prelude::*;
use virtio_bindings::bindings::virtio_mmio as register;
use virtio_tmem::testing::Span;

use super::{Guest, REGION};
use crate::bus::BusDevice;

/// A load or store of 1 to 8 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    offset: u64,
    width: usize,
    /// What is stored; `None`: a load.
    value: Option<u64>,
}

/// Accesses to anything, more often than not to registers that do something.
pub(crate) fn accesses() -> impl Strategy<Value = Vec<Access>> {
    let offset = prop_oneof![
        6 => (0u64..0x40).prop_map(|nth| nth * 4),
        2 => Just(u64::from(register::VIRTIO_MMIO_STATUS)),
        2 => Just(u64::from(register::VIRTIO_MMIO_QUEUE_NOTIFY)),
        2 => 0x100u64..0x140,
        1 => 0u64..0x1000,
        1 => any::<u64>(),
    ];
    let width = prop_oneof![6 => Just(4usize), 1 => 1usize..=8];
    let value = prop_oneof![
        4 => 0u64..0x10,
        2 => (0u64..0x1000).prop_map(|page| page << 12),
        1 => Just(0xf),
        1 => any::<u64>(),
    ];
    let access = (offset, width, proptest::option::weighted(0.7, value));
    let access = access.prop_map(|(offset, width, value)| Access {
        offset,
        width,
        value,
    });
    vec(access, 1..200)
}

/// Does these accesses on a device that was just started properly, then ends.
pub(crate) fn misuse_registers(guest: &Guest<'_>, accesses: &[Access]) {
    guest.negotiate(guest.features());
    let _ = guest.queue(0, 16, true);
    let _ = guest.queue(1, 16, true);
    guest.run();
    for access in accesses {
        let transport = &guest.transport;
        match access.value {
            Some(value) => {
                transport.write(access.offset, &value.to_le_bytes()[..access.width]);
            }
            None => transport.read(access.offset, &mut [0xff; 8][..access.width]),
        }
    }
    guest.reset();
    assert_eq!(guest.read(register::VIRTIO_MMIO_STATUS), 0);
}

/// A descriptor: buffer, flags, next.
type Descriptor = (Span, u16, u16);

/// What a driver writes to a queue.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    features: u64,
    event_idx: bool,
    descriptors: Vec<Descriptor>,
    /// What the descriptors may name.
    content: Vec<[u8; 16]>,
    rounds: Vec<Round>,
}

/// Makes heads available and notifies.
#[derive(Clone, Debug)]
struct Round {
    heads: Vec<u16>,
    /// Sets the available index to that.
    index: Option<u16>,
}

/// Where [`Ring::content`] lies, and what else is put there.
const CONTENT: u64 = 0x10_0000;

/// Queues of `size` descriptors.
pub(crate) fn rings(size: u16) -> impl Strategy<Value = Ring> {
    let addr = prop_oneof![
        6 => (0u64..64).prop_map(|nth| CONTENT + 16 * nth),
        2 => CONTENT..CONTENT + 0x2000,
        2 => 0u64..0x4000,
        1 => REGION - 0x1000..REGION + 0x1000,
        1 => 2 * REGION - 0x1000..2 * REGION + 0x1000,
        1 => any::<u64>(),
    ];
    let len = prop_oneof![
        4 => Just(16u32),
        4 => (0u32..8).prop_map(|nth| nth * 512),
        2 => 0u32..64,
        1 => 0u32..1 << 20,
        1 => any::<u32>(),
    ];
    let span = (addr, len).prop_map(|(addr, len)| Span { addr, len });
    let flags = prop_oneof![8 => 0u16..4, 2 => 0u16..8, 1 => any::<u16>()];
    let next = prop_oneof![8 => 0..size, 1 => any::<u16>()];
    // A header of a request: type, 4 bytes, a number.
    let number = prop_oneof![4 => 0u64..64, 1 => any::<u64>()];
    let content = (0u32..16, any::<u32>(), number).prop_map(|(kind, other, number)| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&other.to_le_bytes());
        bytes[8..].copy_from_slice(&number.to_le_bytes());
        bytes
    });
    let head = prop_oneof![8 => 0..size, 1 => any::<u16>()];
    let index = proptest::option::weighted(0.2, any::<u16>());
    let round =
        (vec(head, 0..usize::from(size)), index).prop_map(|(heads, index)| Round { heads, index });
    (
        any::<u64>(),
        any::<bool>(),
        vec((span, flags, next), usize::from(size)),
        vec(content, 64),
        vec(round, 1..4),
    )
        .prop_map(|(features, event_idx, descriptors, content, rounds)| Ring {
            features,
            event_idx,
            descriptors,
            content,
            rounds,
        })
}

/// Has the device serve queue `index` as it is in `ring`, then resets it.
pub(crate) fn misuse_queue(guest: &Guest<'_>, index: u32, ring: &Ring) {
    // Some of what is offered; VERSION_1, and EVENT_IDX as the queue has it.
    let always = 1 << 32;
    let event_idx = u64::from(ring.event_idx) << 29;
    let features = guest.features() & (ring.features | always) & !(1 << 29) | event_idx;
    assert_eq!(guest.negotiate(features), 0xb);
    let size = u16::try_from(ring.descriptors.len()).unwrap();
    let mut queue = guest.queue(index, size, ring.event_idx);
    for (at, (span, flags, next)) in (0..).zip(&ring.descriptors) {
        queue.set_descriptor(at, *span, *flags, *next);
    }
    guest.seek(CONTENT);
    guest.put(&ring.content.concat());
    assert_eq!(guest.run(), 0xf);
    for round in &ring.rounds {
        for head in &round.heads {
            queue.push(*head);
        }
        if let Some(index) = round.index {
            queue.set_avail_idx(index);
        }
        guest.kick_through(index);
    }
    guest.reset();
}
