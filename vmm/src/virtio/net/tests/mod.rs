// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A network interface, driven as a guest drives it.
#![allow(clippy::cast_possible_truncation)]

mod hostile;
mod on_a_tap;
mod receiving;
mod sending;
mod transport;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use virtio_tmem::testing::{Span, Used};

use super::{MacAddress, Net, NetStats, Tap};
use crate::virtio::Memory;
use crate::virtio::testing::{Guest, Queue, memory};

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

const MRG_RXBUF: u64 = 1 << 15;
const EVENT_IDX: u64 = 1 << 29;
/// CSUM, GUEST_CSUM, and the four kinds of segmentation.
const OFFLOADS: u64 = 1 | 1 << 1 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 12;

/// Header: 12 bytes. Flags and segmentation first, number of buffers last.
fn header(flags: u8, gso: u8) -> Vec<u8> {
    let mut header = vec![0; 12];
    header[..2].copy_from_slice(&[flags, gso]);
    header
}

fn with_buffers(mut header: Vec<u8>, buffers: u16) -> Vec<u8> {
    header[10..].copy_from_slice(&buffers.to_le_bytes());
    header
}

/// A frame that this `seed` makes.
fn frame(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (seed * 7 + at * 3 + at / 256) as u8)
        .collect()
}

/// A socket of packets in place of a tap; the other end.
fn socket() -> (Tap, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    (Tap::like(File::from(OwnedFd::from(ours))), theirs)
}

/// A guest whose driver runs an interface.
struct Driver<'m> {
    guest: Guest<'m>,
    receive: Queue<'m>,
    transmit: Queue<'m>,
    stats: Arc<NetStats>,
}

impl<'m> Driver<'m> {
    /// With all features but those in `without`, and a receiving queue of
    /// `size`.
    fn new(memory: &'m Memory, tap: Tap, without: u64, size: u16) -> Self {
        let net = Net::new(tap, MAC).unwrap();
        let stats = net.stats();
        let guest = Guest::new(memory, net);
        let (receive, transmit) = start(&guest, without, size);
        Self {
            guest,
            receive,
            transmit,
            stats,
        }
    }

    /// Sends a packet in these buffers, and waits until it is used.
    fn send(&mut self, spans: &[Span]) {
        let head = self.transmit.add(spans, &[]).unwrap();
        self.guest.kick(1, &mut self.transmit);
        let used = self.guest.used(&mut self.transmit);
        assert_eq!(used, Used { head, len: 0 });
    }

    fn send_bytes(&mut self, header: &[u8], frame: &[u8]) {
        let span = self.guest.put(&[header, frame].concat());
        self.send(&[span]);
    }

    /// Gives the device a buffer to receive to.
    fn offer(&mut self, len: u32) -> Span {
        let space = self.guest.space(len);
        self.receive.add(&[], &[space]).unwrap();
        self.guest.kick(0, &mut self.receive);
        space
    }

    /// Waits for a used buffer; the bytes written to it.
    fn received(&mut self, space: Span) -> Vec<u8> {
        let used = self.guest.used(&mut self.receive);
        let mut bytes = self.guest.bytes(&[space]);
        let rest = bytes.split_off(used.len as usize);
        assert!(rest.iter().all(|byte| *byte == 0xee), "beyond the packet");
        bytes
    }
}

/// Starts a driver, and waits until it runs: what comes before from the host is
/// thrown away. The queues.
fn start<'m>(guest: &Guest<'m>, without: u64, size: u16) -> (Queue<'m>, Queue<'m>) {
    let features = guest.features() & !without;
    assert_eq!(guest.negotiate(features), 0xb);
    let event_idx = features & EVENT_IDX != 0;
    let queues = (
        guest.queue(0, size, event_idx),
        guest.queue(1, 256, event_idx),
    );
    assert_eq!(guest.run(), 0xf);
    guest.kick_through(0);
    queues
}

/// Starts another driver, which sends and receives a packet.
fn check_alive(guest: &Guest<'_>, host: &UnixDatagram) {
    host.set_nonblocking(true).unwrap();
    while host.recv(&mut [0; 16]).is_ok() {}
    host.set_nonblocking(false).unwrap();
    guest.seek(0x1000);
    let (mut receive, mut transmit) = start(guest, 0, 16);
    let packet = [header(0, 0), frame(5, 100)].concat();
    let span = guest.put(&packet);
    transmit.add(&[span], &[]).unwrap();
    guest.kick(1, &mut transmit);
    let mut bytes = [0; 200];
    let len = host.recv(&mut bytes).unwrap();
    assert_eq!(bytes[..len], packet);
    let space = guest.space(200);
    receive.add(&[], &[space]).unwrap();
    guest.kick(0, &mut receive);
    host.send(&packet).unwrap();
    assert_eq!(guest.used(&mut receive).len as usize, packet.len());
}
