// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A plain disk in front of the store, as a guest without the driver has it.

use super::super::Tmem;
use super::{BOTH, TmemInProcess};
use crate::virtio::testing::{Guest, Queue, memory};

/// The virtio device id of a disk (virtio 1.2, section 5.2), and its requests.
const DEVICE_ID: u32 = 2;
const IN: u32 = 0;
const OUT: u32 = 1;

/// Runs a request for a block; its status, and the buffer as it is then.
fn request(
    guest: &Guest<'_>,
    queue: &mut Queue<'_>,
    kind: u32,
    block: u64,
    data: &[u8],
) -> (u8, Vec<u8>) {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend(0u32.to_le_bytes());
    header.extend((8 * block).to_le_bytes());
    let (header, data, status) = (guest.put(&header), guest.put(data), guest.space(1));
    let added = match kind {
        IN => queue.add(&[header], &[data, status]),
        _ => queue.add(&[header, data], &[status]),
    };
    added.unwrap();
    guest.kick(0, queue);
    guest.used(queue);
    (guest.bytes(&[status])[0], guest.bytes(&[data]))
}

#[test]
fn a_swap_disk_is_there_with_its_header() {
    for serve in BOTH {
        let memory = memory();
        let Ok(Tmem::InProcess(options)) = Tmem::parse_swap("64M,quota=32M") else {
            panic!("refused");
        };
        let store = TmemInProcess::new(&options, &memory).unwrap();
        let guest = Guest::new(&memory, store.virtio(serve).unwrap());
        assert_eq!(
            guest.read(virtio_bindings::bindings::virtio_mmio::VIRTIO_MMIO_DEVICE_ID),
            DEVICE_ID
        );
        let features = guest.features();
        assert_eq!(guest.negotiate(features), 0xb);
        let mut queue = guest.queue(0, 64, true);
        assert_eq!(guest.run(), 0xf);
        let page = [0x5a; 4096];
        let (status, header) = request(&guest, &mut queue, IN, 0, &[0; 4096]);
        assert_eq!((status, &header[4086..]), (0, &b"SWAPSPACE2"[..]));
        assert_eq!(request(&guest, &mut queue, OUT, 7, &page).0, 0);
        let (status, found) = request(&guest, &mut queue, IN, 7, &[0; 4096]);
        assert_eq!((status, &found[..]), (0, &page[..]));
        assert_eq!(store.device.client().stats().persistent_pages, 1);
    }
}
