// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is measured: disks of guests, and who serves them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tmem_probe::order::{Order, Pages};

use super::guest::Guest;
use super::samples::{Round, Rounds};
use crate::vhost::Peer;

/// A raw disk of one of the guests.
pub(super) struct Subject {
    pub(super) name: String,
    /// Which guest has it.
    pub(super) guest: usize,
    pub(super) disk: PathBuf,
    /// Which of the back ends serves it, if any.
    pub(super) peer: Option<usize>,
    /// By measure.
    pub(super) rounds: Vec<Rounds>,
}

/// How pages of a raw disk are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measure {
    pub(super) name: &'static str,
    is_read: bool,
    depth: usize,
    beside_writes: bool,
    count: u64,
}

/// All measures; others refer to them by their places.
pub(super) const MEASURES: [Measure; 5] = [
    Measure::new("read, depth 1", true, 1, 2048),
    Measure::new("write, depth 1", false, 1, 2048),
    Measure::new("read, depth 32", true, 32, 8192),
    Measure::new("write, depth 32", false, 32, 8192),
    Measure {
        beside_writes: true,
        ..Measure::new("read, depth 1, beside writes", true, 1, 2048)
    },
];
pub(super) const READ: usize = 0;
pub(super) const BESIDE: usize = 4;

impl Measure {
    const fn new(name: &'static str, is_read: bool, depth: usize, count: u64) -> Self {
        Self {
            name,
            is_read,
            depth,
            beside_writes: false,
            count,
        }
    }

    /// What one request is by itself: of how many a latency is worth telling.
    pub(super) fn is_one_by_one(&self) -> bool {
        self.depth == 1
    }

    fn order(&self, disk: &std::path::Path, pages: u64, seed: u64, share: u64) -> Order {
        let pages = Pages {
            disk: disk.into(),
            first: 0,
            pages,
            count: (self.count / share).max(64),
            depth: self.depth,
            seed,
            beside_writes: self.beside_writes,
        };
        match self.is_read {
            true => Order::Read(pages),
            false => Order::Write(pages),
        }
    }
}

impl Subject {
    pub(super) fn new(name: &str, guest: usize, disk: &str, peer: Option<usize>) -> Self {
        Self {
            name: name.into(),
            guest,
            disk: disk.into(),
            peer,
            rounds: vec![Rounds::default(); MEASURES.len()],
        }
    }

    /// Writes all pages, so that there is something to read.
    pub(super) fn fill(&self, guests: &mut [Guest], pages: u64) -> Result<()> {
        let guest = guests.get_mut(self.guest).context("no such guest")?;
        let all = Pages {
            disk: self.disk.clone(),
            first: 0,
            pages: pages * 2,
            count: pages * 2,
            depth: 32,
            seed: 0,
            beside_writes: false,
        };
        guest.order(&Order::Write(all)).map(|_| ())
    }

    /// One round of a measure; a `share` of its requests.
    pub(super) fn measure(
        &mut self,
        which: usize,
        guests: &mut [Guest],
        peers: &[Peer],
        (pages, seed, share): (u64, u64, u64),
    ) -> Result<()> {
        let measure = MEASURES.get(which).context("no such measure")?;
        let guest = guests.get_mut(self.guest).context("no such guest")?;
        let peer = self.peer.and_then(|peer| peers.get(peer));
        let host = || peer.map_or(Ok(Duration::ZERO), Peer::cpu_time);
        let order = measure.order(&self.disk, pages, seed, share);
        let before = (guest.cpu_time()?, host()?);
        let answer = guest
            .order(&order)
            .with_context(|| format!("{}: {}", self.name, measure.name))?;
        let after = (guest.cpu_time()?, host()?);
        let guest_cpu = after.0.saturating_sub(before.0);
        let host_cpu = after.1.saturating_sub(before.1);
        let rounds = self.rounds.get_mut(which).context("no such measure")?;
        rounds.push(Round::new(&answer, guest_cpu, host_cpu));
        Ok(())
    }
}
