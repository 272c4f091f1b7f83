// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver that puts and gets all the time, and the longest time without an answer.

use crate::vhost::{Driver, Tmem};
use anyhow::{Context, Result, bail};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tmem_store::Page;

/// Requests under way at the same time.
const DEPTH: usize = 32;
/// Pages that are put, and then got.
const RUN: usize = 256;
/// Time after which nothing more is expected.
const LOST: Duration = Duration::from_secs(120);

pub(super) struct Load {
    driver: Driver<Tmem>,
    /// What is put at an index is the page with this number, over and over: a multiple of [`RUN`].
    content: Vec<Page>,
    pages: u64,
    random: fastrand::Rng,
}

/// When the device answered.
#[derive(Default)]
pub(super) struct Clock {
    seen: Mutex<Seen>,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Seen {
    count: u64,
    last: Option<Instant>,
    longest: Duration,
}

impl Clock {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self) {
        let now = Instant::now();
        let mut seen = self.seen();
        if let Some(last) = seen.last {
            seen.longest = seen.longest.max(now - last);
        }
        seen.last = Some(now);
        seen.count += 1;
    }

    /// Waits until some more requests are answered.
    pub(super) fn wait_for_some(&self) -> Result<()> {
        let begin = Instant::now();
        let enough = self.seen().count + 8 * RUN as u64;
        while self.seen().count < enough {
            if self.is_over.load(Relaxed) {
                bail!("the driver has ended");
            }
            if begin.elapsed() > LOST {
                bail!("requests are not answered");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Forgets what was seen.
    pub(super) fn begin(&self) {
        self.seen().longest = Duration::ZERO;
    }

    /// The longest time between two answers since then.
    pub(super) fn longest(&self) -> Duration {
        self.seen().longest
    }
}

impl Load {
    pub(super) fn connect(socket: UnixStream, mut content: Vec<Page>) -> Result<Self> {
        content.truncate(content.len() / RUN * RUN);
        if content.is_empty() {
            bail!("too few pages");
        }
        Ok(Self {
            driver: Driver::over(socket, Tmem)?,
            content,
            pages: 0,
            random: fastrand::Rng::with_seed(1),
        })
    }

    /// Pages that are there.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// Puts so many pages more, or some more than that.
    pub(super) fn put(&mut self, pages: u64) -> Result<()> {
        for _ in 0..pages.div_ceil(RUN as u64) {
            self.run(self.pages, true, &mut || ())?;
            self.pages += RUN as u64;
        }
        Ok(())
    }

    /// Gets all pages.
    pub(super) fn check(&mut self) -> Result<()> {
        for first in (0..self.pages).step_by(RUN) {
            self.run(first, false, &mut || ())?;
        }
        Ok(())
    }

    fn run(&mut self, first: u64, put: bool, answered: &mut dyn FnMut()) -> Result<()> {
        let nth = usize::try_from(first % self.content.len() as u64)?;
        let pages = self.content.get(nth..nth + RUN).context("no page")?;
        let wrong = self
            .driver
            .transfer(first, pages, DEPTH, put, &mut |_| answered())?;
        if wrong > 0 {
            bail!("{wrong} pages came back other than they were put");
        }
        Ok(())
    }

    /// Puts and gets pages at random while `work` is done.
    pub(super) fn during(&mut self, work: impl FnOnce(&Clock) -> Result<()>) -> Result<()> {
        let clock = Clock::default();
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let driver = scope.spawn(|| {
                let runs = self.pages / RUN as u64;
                let mut worked = Ok(());
                while worked.is_ok() && !is_done.load(Relaxed) {
                    let first = self.random.u64(..runs) * RUN as u64;
                    let put = self.random.bool();
                    worked = self.run(first, put, &mut || clock.answered());
                }
                clock.is_over.store(true, Relaxed);
                worked
            });
            let done = work(&clock);
            is_done.store(true, Relaxed);
            let worked = driver
                .join()
                .unwrap_or_else(|_| bail!("the driver panicked"));
            // Why the driver ended says more.
            worked.and(done)
        })
    }
}
