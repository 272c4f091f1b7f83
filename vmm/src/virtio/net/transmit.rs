// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From the guest to the tap.

use super::stats::NetStats;
use super::tap::Tap;
use super::{header, receive::MAX_PACKET};
use crate::virtio::notice::Notices;
use crate::virtio::{Chain, Chains, ServedQueue, total};

/// Least bytes of a frame: addresses and type.
const MIN_FRAME: u64 = 14;

/// Most pieces of a frame; drivers use a few dozen.
const MAX_PIECES: usize = 1000;

/// The sending queue.
#[derive(Debug)]
pub(super) struct Transmitter {
    pub(super) queue: ServedQueue,
    pub(super) features: u64,
}

impl Transmitter {
    /// Sends what the driver has made available. `None`: the tap is gone.
    pub(super) fn run(&mut self, tap: Option<&Tap>, stats: &NetStats, notices: &mut Notices) {
        let features = self.features;
        let send = |chain: &mut Chain<'_>| {
            send(chain, features, tap, stats, notices);
            // The driver has nothing to read.
            0
        };
        self.queue.turn(&mut Chains(send), &|| true);
    }
}

fn send(
    chain: &mut Chain<'_>,
    features: u64,
    tap: Option<&Tap>,
    stats: &NetStats,
    notices: &mut Notices,
) {
    let mut header = [0; header::LEN];
    let good = chain.read(&mut header) && header::to_host(&mut header, features);
    let len = total(&chain.readable);
    let fits = (MIN_FRAME..=MAX_PACKET as u64).contains(&len);
    if !good || !fits || chain.readable.len() > MAX_PIECES {
        stats.send_malformed.add(1);
        return;
    }
    match tap.map(|tap| tap.write(&header, &chain.readable)) {
        Some(Ok(())) => {
            stats.sent_packets.add(1);
            stats.sent_bytes.add(len);
        }
        Some(Err(error)) => {
            stats.send_failed.add(1);
            // The guest can provoke that with what makes no sense to the host.
            if error.raw_os_error() != Some(libc::EINVAL) {
                notices.failed("sending a packet", error);
            }
        }
        None => stats.send_failed.add(1),
    }
}
