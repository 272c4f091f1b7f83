// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From the tap to the guest.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::header;
use super::stats::NetStats;
use super::tap::Tap;
use crate::virtio::{Chain, ServedQueue, total};

/// More than the longest packet: 64 KiB of IPv6 payload, with headers.
pub(super) const MAX_PACKET: usize = 66 << 10;

/// How long packets are taken before others get their turn.
const TURN: Duration = Duration::from_millis(2);

/// The receiving queue, and a packet that is not in it yet.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) queue: ServedQueue,
    features: u64,
    /// Whether a packet may take several buffers.
    mergeable: bool,
    header: [u8; header::LEN],
    frame: Box<[u8]>,
    /// Bytes of the frame that waits.
    waiting: Option<usize>,
    /// It waits for buffers.
    pub(super) starved: bool,
}

/// What became of a packet.
enum Delivery {
    Done,
    Dropped,
    /// There are too few buffers.
    Starved,
}

impl Receiver {
    pub(super) fn new(queue: ServedQueue, features: u64, mergeable: bool) -> Self {
        Self {
            queue,
            features,
            mergeable,
            header: [0; header::LEN],
            frame: vec![0; MAX_PACKET].into(),
            waiting: None,
            starved: false,
        }
    }

    /// Takes packets from `tap` until there are none or there is no room.
    ///
    /// # Errors
    /// When the tap is gone.
    pub(super) fn run(&mut self, tap: &Tap, stats: &NetStats) -> io::Result<()> {
        self.starved = false;
        self.queue.quiet();
        let result = self.take(tap, stats);
        self.queue.signal();
        result
    }

    fn take(&mut self, tap: &Tap, stats: &NetStats) -> io::Result<()> {
        let began = Instant::now();
        // The tap stays readable if the turn ends before the packets.
        while began.elapsed() < TURN {
            let len = match self.waiting.take() {
                Some(len) => len,
                None => match tap.read(&mut self.header, &mut self.frame) {
                    Ok(len) if header::to_guest(&mut self.header, self.features) => len,
                    Ok(_) => {
                        stats.receive_dropped.add(1);
                        continue;
                    }
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                        // The kernel cannot describe it.
                        stats.receive_dropped.add(1);
                        continue;
                    }
                    Err(error) if is_passing(&error) => return Ok(()),
                    Err(error) => return Err(error),
                },
            };
            match self.deliver(len) {
                Delivery::Done => {
                    stats.received_packets.add(1);
                    stats.received_bytes.add(len as u64);
                }
                Delivery::Dropped => stats.receive_dropped.add(1),
                Delivery::Starved => {
                    stats.receive_waits.add(1);
                    self.waiting = Some(len);
                    self.starved = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes the packet to the driver's buffers.
    fn deliver(&mut self, len: usize) -> Delivery {
        let memory = self.queue.memory().clone();
        let wanted = (header::LEN + len) as u64;
        let mut chains: Vec<Chain<'_>> = Vec::new();
        let mut room = 0;
        let mut more = false;
        while room < wanted {
            match self.queue.next(&memory) {
                Some(Ok(chain)) if total(&chain.writable) >= header::LEN as u64 => {
                    more = false;
                    room += total(&chain.writable);
                    chains.push(chain);
                    let last = !self.mergeable || chains.len() == usize::from(self.queue.size());
                    if last && room < wanted {
                        // It will never fit.
                        self.put_back(&chains);
                        return Delivery::Dropped;
                    }
                }
                Some(bad) => {
                    let bad = bad.map_or_else(|head| head, |chain| chain.head());
                    let heads = chains.iter().map(Chain::head).chain([bad]);
                    for head in heads {
                        self.queue.complete(head, 0);
                    }
                    return Delivery::Dropped;
                }
                None => {
                    // Twice in a row there are more, and they cannot be had:
                    // the ring makes no sense until the driver notifies again.
                    if !self.queue.wait_for_more() || more {
                        self.put_back(&chains);
                        return Delivery::Starved;
                    }
                    more = true;
                    self.queue.quiet();
                }
            }
        }
        let count = u16::try_from(chains.len()).unwrap_or(u16::MAX);
        header::set_buffers(&mut self.header, count);
        let mut parts = [&self.header[..], self.frame.get(..len).unwrap_or_default()].into_iter();
        let used = fill(&mut chains, &mut parts);
        self.queue.complete_together(&used);
        Delivery::Done
    }

    fn put_back(&mut self, chains: &[Chain<'_>]) {
        self.queue
            .put_back(u16::try_from(chains.len()).unwrap_or(u16::MAX));
    }
}

/// Writes the `parts` to the chains, one after the other; gives their heads and
/// the bytes written to each.
fn fill<'p>(
    chains: &mut [Chain<'_>],
    parts: &mut impl Iterator<Item = &'p [u8]>,
) -> Vec<(u16, u32)> {
    let mut rest = parts.next().unwrap_or_default();
    let mut used = Vec::with_capacity(chains.len());
    for chain in chains {
        let mut written = 0;
        loop {
            let count = chain.write(rest);
            written += count;
            rest = rest.get(count..).unwrap_or_default();
            if !rest.is_empty() {
                break;
            }
            match parts.next() {
                Some(part) => rest = part,
                None => break,
            }
        }
        used.push((chain.head(), u32::try_from(written).unwrap_or(u32::MAX)));
    }
    used
}

/// Whether the tap may have packets again: there are none now, or it is down.
fn is_passing(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EIO)
}
