// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The thread that moves pages out of memory: it waits for a disk, or for other hosts, so that nobody
//! else has to.

use crate::background::{Background, Waking};
use crate::reclaim::Reclaimer;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// How long it sleeps unless somebody wakes it, while there is nothing to do.
const IDLE: Duration = Duration::from_millis(500);

/// Says that there is a demoter until it has ended, however that is.
struct Running(Arc<Reclaimer>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.budget.demotion.set_has_thread(false);
    }
}

/// A thread that moves pages to the spill area while little memory is left; it ends when this is
/// dropped.
#[derive(Debug)]
pub struct Demoter {
    _thread: Background,
}

impl Demoter {
    pub(crate) fn start(
        reclaimer: Arc<Reclaimer>,
        prepare: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        reclaimer.budget.demotion.set_has_thread(true);
        let running = Running(reclaimer.clone());
        let waking: Waking = |budget| &budget.demotion.wanted;
        let thread = Background::start("demoter", reclaimer, waking, move |reclaimer, stop| {
            let _running = running;
            prepare();
            run(reclaimer, stop);
        });
        Ok(Self { _thread: thread? })
    }
}

fn run(reclaimer: &Reclaimer, stop: &AtomicBool) {
    let demotion = &reclaimer.budget.demotion;
    let work = || {
        let any = reclaimer.demote_some();
        demotion.end_turn();
        any
    };
    while !stop.load(SeqCst) {
        let count = demotion.wanted.count();
        if work() {
            continue;
        }
        // Who finds memory short from here on wakes it.
        demotion.wanted.about_to_sleep();
        if !work() && !stop.load(SeqCst) {
            demotion.wanted.wait(count, IDLE);
        }
    }
}
