// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Threads that work until they are to meet: to check everything, or to end.

use crate::report;
use crate::report::Counters;
use crate::report::Event;
use anyhow::Result;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Between two looks at what is asked for.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two lines about progress.
const PROGRESS: Duration = Duration::from_secs(30);

/// What is asked of a load from outside.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Read everything from the disk and compare it.
    pub check: Arc<AtomicBool>,
    /// End, after a last check.
    pub end: Arc<AtomicBool>,
}

impl Orders {
    /// Those of signals: SIGUSR1 to check, SIGTERM to end.
    ///
    /// # Errors
    /// The signals cannot be caught.
    pub fn from_signals() -> Result<Self> {
        let orders = Self::default();
        let (check, end) = (Arc::clone(&orders.check), Arc::clone(&orders.end));
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, check)?;
        signal_hook::flag::register(signal_hook::consts::SIGTERM, end)?;
        Ok(orders)
    }
}

/// Where the threads meet.
#[derive(Debug)]
pub struct Meeting {
    /// Meetings that were called.
    called: AtomicU64,
    last: AtomicBool,
    barrier: Barrier,
}

/// What a thread does at a meeting.
pub trait Member {
    /// Has all of it on the disk.
    ///
    /// # Errors
    /// That cannot be done.
    fn settle(&mut self) -> Result<()>;

    /// Reads all of it from the disk and compares it.
    ///
    /// # Errors
    /// It is wrong, or cannot be read.
    fn check(&mut self) -> Result<()>;

    /// Does something at random.
    ///
    /// # Errors
    /// What was read is wrong, or it cannot be done.
    fn step(&mut self) -> Result<()>;
}

impl Meeting {
    /// For `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self {
            called: AtomicU64::new(0),
            last: AtomicBool::new(false),
            barrier: Barrier::new(threads + 1),
        }
    }

    /// A thread's life.
    ///
    /// # Errors
    /// Those of its member. The others then wait for it in vain: the process
    /// must end.
    pub fn attend(&self, member: &mut dyn Member) -> Result<()> {
        let mut been = 0;
        loop {
            if self.called.load(Ordering::Acquire) > been {
                been += 1;
                member.settle()?;
                self.barrier.wait();
                // Meanwhile the caches are dropped.
                self.barrier.wait();
                member.check()?;
                self.barrier.wait();
                if self.last.load(Ordering::Acquire) {
                    return Ok(());
                }
            } else {
                member.step()?;
            }
        }
    }

    /// Leads until the end, and says how it goes. `between` is called when
    /// everything is on the disk and nobody works.
    ///
    /// # Errors
    /// Those of `between`.
    pub fn lead(
        &self,
        orders: &Orders,
        seed: u32,
        seconds: u64,
        counters: &Counters,
        between: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds);
        let mut next = start + PROGRESS;
        loop {
            let now = Instant::now();
            let last = now >= end || orders.end.load(Ordering::Relaxed);
            if last || orders.check.swap(false, Ordering::Relaxed) {
                self.last.store(last, Ordering::Release);
                self.called.fetch_add(1, Ordering::Release);
                self.barrier.wait();
                between()?;
                let before = counters.verified_bytes();
                self.barrier.wait();
                self.barrier.wait();
                let bytes = counters.verified_bytes() - before;
                let round = counters.checked();
                report::say(&Event::Checked { round, bytes });
                if last {
                    let seconds = start.elapsed().as_secs();
                    report::say(&Event::Done(counters.report(seed, seconds)));
                    return Ok(());
                }
            }
            if now >= next {
                next = now + PROGRESS;
                let seconds = start.elapsed().as_secs();
                report::say(&Event::Progress(counters.report(seed, seconds)));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Runs `members`, each in a thread of its own, to the end. A member that fails
/// ends the process: what it found must not be hidden by others.
///
/// # Errors
/// Those of [`Meeting::lead`].
pub fn run(
    members: Vec<Box<dyn Member + Send + '_>>,
    orders: &Orders,
    seed: u32,
    seconds: u64,
    counters: &Counters,
    between: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let meeting = Meeting::new(members.len());
    std::thread::scope(|scope| {
        for mut member in members {
            let meeting = &meeting;
            scope.spawn(move || {
                if let Err(error) = meeting.attend(member.as_mut()) {
                    fail(&error);
                }
            });
        }
        report::say(&Event::Started { seed });
        meeting
            .lead(orders, seed, seconds, counters, between)
            .unwrap_or_else(|error| fail(&error));
    });
    Ok(())
}

/// A byte is not what it must be.
#[derive(Debug)]
pub struct WrongBytes(pub String);

impl std::fmt::Display for WrongBytes {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(&self.0)
    }
}

impl std::error::Error for WrongBytes {}

/// Says why and ends the process.
pub fn fail(error: &anyhow::Error) -> ! {
    let text = format!("{error:#}");
    eprintln!("load: {text}");
    if error.downcast_ref::<WrongBytes>().is_some() {
        report::say(&Event::Wrong(text));
        std::process::exit(report::WRONG);
    }
    report::say(&Event::Failed(text));
    std::process::exit(report::FAILED);
}

/// Has the kernel forget what it has read, so that it must read it again.
///
/// # Errors
/// This is not root.
pub fn drop_caches() -> std::io::Result<()> {
    std::fs::write("/proc/sys/vm/drop_caches", "3")
}
