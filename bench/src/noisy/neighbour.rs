// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who is beside the quiet machine.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use tmem_store::Page;

use crate::vhost::{Driver, Neighbour};

/// Requests under way.
const DEPTH: usize = 32;
/// Requests at a time, between looks at whether it is over.
const RUN: usize = 256;
/// Runs between two connections of a hostile machine.
const RUNS: u64 = 8;
/// Connections beside that, which say nothing.
const IDLE: usize = 8;

/// Who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// Nobody.
    Nobody,
    /// A machine with deep queues, always at its quota, that flushes whole objects.
    Noisy(Of),
    /// One that also sends nonsense, destroys pools and connects anew all the time.
    Hostile(Of),
}

/// Which daemon serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Another one: what the neighbour does to others by using the CPUs.
    Another,
    /// That of the quiet machine.
    TheSame,
}

impl Beside {
    pub(super) const ALL: [Self; 5] = [
        Self::Nobody,
        Self::Noisy(Of::Another),
        Self::Noisy(Of::TheSame),
        Self::Hostile(Of::Another),
        Self::Hostile(Of::TheSame),
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "alone",
            Self::Noisy(Of::Another) => "beside a noisy VM of another daemon",
            Self::Noisy(Of::TheSame) => "beside a noisy VM",
            Self::Hostile(Of::Another) => "beside a hostile VM of another daemon",
            Self::Hostile(Of::TheSame) => "beside a hostile VM",
        }
    }

    /// The same neighbour, served by another daemon, if it is served by that of the quiet one.
    pub(super) fn elsewhere(self) -> Option<Self> {
        match self {
            Self::Noisy(Of::TheSame) => Some(Self::Noisy(Of::Another)),
            Self::Hostile(Of::TheSame) => Some(Self::Hostile(Of::Another)),
            Self::Nobody | Self::Noisy(Of::Another) | Self::Hostile(Of::Another) => None,
        }
    }
}

/// What neighbours and those who measure know of each other.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) is_over: AtomicBool,
    /// Requests of neighbours that were answered.
    pub(super) answered: AtomicU64,
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Relaxed)
    }
}

/// Sends requests until it is over.
pub(super) fn noisy(socket: &Path, pages: &[Page], shared: &Shared) -> Result<()> {
    let protocol = Neighbour { is_hostile: false };
    let mut driver = Driver::over(connect(socket)?, protocol)?;
    flood(&mut driver, pages, shared, u64::MAX)
}

/// As [`noisy`], and connects anew in between.
pub(super) fn hostile(socket: &Path, pages: &[Page], shared: &Shared) -> Result<()> {
    while shared.goes_on() {
        let protocol = Neighbour { is_hostile: true };
        // It may be turned away, as long as an earlier connection is not forgotten.
        let Ok(mut driver) = Driver::over(connect(socket)?, protocol) else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        flood(&mut driver, pages, shared, RUNS)?;
        let _idle: Vec<_> = (0..IDLE).map_while(|_| connect(socket).ok()).collect();
    }
    Ok(())
}

fn connect(socket: &Path) -> Result<UnixStream> {
    UnixStream::connect(socket).context("cannot connect a neighbour")
}

fn flood(driver: &mut Driver<Neighbour>, pages: &[Page], shared: &Shared, runs: u64) -> Result<()> {
    let mut random = fastrand::Rng::new();
    let mut nth = 0;
    while shared.goes_on() && nth < runs {
        let from = random.usize(..pages.len().saturating_sub(RUN).max(1));
        let run = pages.get(from..).unwrap_or(pages);
        let run = run.get(..RUN).unwrap_or(run);
        driver.transfer(random.u64(..1 << 40), run, DEPTH, true, &mut |_| {
            shared.answered.fetch_add(1, Relaxed);
        })?;
        nth += 1;
    }
    Ok(())
}
