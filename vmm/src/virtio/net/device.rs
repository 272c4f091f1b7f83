// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A tap as a virtio device, with a thread that works on its queues.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};

use super::receive::Receiver;
use super::transmit::Transmitter;
use super::{MacAddress, NetStats, Tap};
use crate::confine::Role;
use crate::virtio::notice::Notices;
use crate::virtio::{
    Activation, Backend, COMMON_FEATURES, Interrupt, ServedQueue, Source, VirtioDevice, Worker,
    config,
};

/// Descriptors of each queue.
const QUEUE_SIZE: u16 = 256;

/// The queues.
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

const FEATURES: u64 = COMMON_FEATURES
    | 1 << VIRTIO_NET_F_MAC
    | 1 << VIRTIO_NET_F_STATUS
    | 1 << VIRTIO_NET_F_MRG_RXBUF
    | 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6;

/// Packets that a tap holds while nobody takes them, at most by default 1000;
/// so many are thrown away when a driver starts.
const STALE: usize = 4096;

/// A virtio-net device.
#[derive(Debug)]
pub struct Net {
    mac: MacAddress,
    tap_is_gone: Arc<AtomicBool>,
    stats: Arc<NetStats>,
    worker: Worker,
}

impl Net {
    /// The device of `tap`. The guest's interface has the address `mac`. Starts
    /// its thread.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor to give.
    pub fn new(tap: Tap, mac: MacAddress) -> io::Result<Self> {
        let stats = Arc::<NetStats>::default();
        let tap_is_gone = Arc::<AtomicBool>::default();
        // The system shows 15 bytes.
        let name: String = format!("net-{}", tap.name()).chars().take(15).collect();
        let backend = Queues {
            notices: Notices::new(format!("tap {}", tap.name())),
            tap,
            tap_is_gone: tap_is_gone.clone(),
            stats: stats.clone(),
            receiver: None,
            transmitter: None,
            interrupt: None,
        };
        Ok(Self {
            mac,
            tap_is_gone,
            stats,
            worker: Worker::new(&name, Role::Device, backend)?,
        })
    }

    /// What the interface counts.
    pub fn stats(&self) -> Arc<NetStats> {
        self.stats.clone()
    }
}

impl VirtioDevice for Net {
    fn id(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let status = if self.tap_is_gone.load(SeqCst) {
            0
        } else {
            VIRTIO_NET_S_LINK_UP
        };
        let [low, high, ..] = status.to_le_bytes();
        let [a, b, c, d, e, f] = self.mac.0;
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        let len = u32::try_from(data.len()).unwrap_or_default();
        data.copy_from_slice(&config::read(&[a, b, c, d, e, f, low, high], offset, len));
    }

    fn activate(&mut self, activation: Activation) {
        self.worker.start(activation);
    }

    fn reset(&mut self) {
        self.worker.stop();
    }
}

/// The queues, on the thread.
struct Queues {
    tap: Tap,
    /// Somebody has removed the interface. Nothing brings it back.
    tap_is_gone: Arc<AtomicBool>,
    stats: Arc<NetStats>,
    notices: Notices,
    receiver: Option<Receiver>,
    transmitter: Option<Transmitter>,
    interrupt: Option<Arc<Interrupt>>,
}

/// What the thread waits for.
const ROOM: usize = 0;
const TO_SEND: usize = 1;
const PACKETS: usize = 2;

impl Queues {
    fn receive(&mut self) {
        if self.tap_is_gone.load(SeqCst) {
            return;
        }
        let Some(receiver) = &mut self.receiver else {
            return;
        };
        if let Err(error) = receiver.run(&self.tap, &self.stats) {
            log::error!(
                "the tap '{}' is gone, and the guest without its network: {error}",
                self.tap.name()
            );
            self.tap_is_gone.store(true, SeqCst);
            if let Some(interrupt) = &self.interrupt {
                interrupt.config_changed();
            }
        }
    }
}

impl Backend for Queues {
    fn start(&mut self, mut activation: Activation) {
        let features = activation.features;
        let mergeable = activation.has(VIRTIO_NET_F_MRG_RXBUF);
        if let Err(error) = self.tap.set_offload(offload(features)) {
            // Then packets come finished, or are dropped.
            self.notices.failed("setting what is offloaded", error);
        }
        self.tap.drain(STALE);
        let mut serve = |index| {
            let queue = activation.take(index)?;
            let (memory, interrupt) = (activation.memory.clone(), activation.interrupt.clone());
            Some(ServedQueue::new(queue, memory, interrupt))
        };
        self.receiver = serve(RECEIVE).map(|queue| Receiver::new(queue, features, mergeable));
        self.transmitter = serve(TRANSMIT).map(|queue| Transmitter { queue, features });
        self.interrupt = Some(activation.interrupt);
    }

    fn stop(&mut self) {
        self.receiver = None;
        self.transmitter = None;
        self.interrupt = None;
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let mut sources = Vec::with_capacity(3);
        if let Some(receiver) = &self.receiver {
            sources.push(Source {
                file: receiver.queue.kick(),
                number: ROOM,
            });
            if !receiver.starved && !self.tap_is_gone.load(SeqCst) {
                sources.push(Source {
                    file: self.tap.file(),
                    number: PACKETS,
                });
            }
        }
        if let Some(transmitter) = &self.transmitter {
            sources.push(Source {
                file: transmitter.queue.kick(),
                number: TO_SEND,
            });
        }
        sources
    }

    fn ready(&mut self, number: usize) {
        match number {
            ROOM => {
                if let Some(receiver) = &mut self.receiver {
                    receiver.queue.kicked();
                }
                self.receive();
            }
            PACKETS => self.receive(),
            _ => {
                let tap = (!self.tap_is_gone.load(SeqCst)).then_some(&self.tap);
                if let Some(transmitter) = &mut self.transmitter {
                    transmitter.queue.kicked();
                    transmitter.run(tap, &self.stats, &mut self.notices);
                }
            }
        }
    }
}

/// What the guest can do to packets itself, as the tap wants it told.
fn offload(features: u64) -> u32 {
    let has = |bit: u32| features & 1 << bit != 0;
    if !has(VIRTIO_NET_F_GUEST_CSUM) {
        return 0;
    }
    let mut flags = libc::TUN_F_CSUM;
    if has(VIRTIO_NET_F_GUEST_TSO4) {
        flags |= libc::TUN_F_TSO4;
    }
    if has(VIRTIO_NET_F_GUEST_TSO6) {
        flags |= libc::TUN_F_TSO6;
    }
    flags
}
