// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The queues in service: each behind a lock of its own, so that any thread
//! can serve any of them, and several at a time.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tmem_host::personality::{Handler, Personality};
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::{Activation, ActiveQueue, Doorbell, ServedQueue};

/// All queues of a device.
pub(super) struct Lanes {
    lanes: Vec<Mutex<OneLane>>,
    /// The driver is going: nobody begins to serve. Whoever waits for a lock
    /// would otherwise not get it from somebody who takes it again and again.
    closing: AtomicBool,
}

struct OneLane {
    /// There while the driver is.
    open: Option<ServedQueue>,
    /// Keeps its memory from one driver to the next.
    handler: Box<dyn Handler>,
}

impl Lanes {
    pub(super) fn new(personality: &Arc<dyn Personality>, queues: u16) -> Self {
        let lane = |queue| {
            Mutex::new(OneLane {
                open: None,
                handler: personality.clone().handler(queue),
            })
        };
        Self {
            lanes: (0..queues).map(lane).collect(),
            closing: AtomicBool::new(false),
        }
    }

    /// The driver is there, with these queues.
    pub(super) fn open(&self, activation: &Activation, queues: Vec<ActiveQueue>) {
        for active in queues {
            if let Some(mut lane) = self.lock(active.index) {
                lane.open = Some(ServedQueue::new(
                    active,
                    activation.memory.clone(),
                    activation.interrupt.clone(),
                ));
            }
        }
        self.closing.store(false, SeqCst);
    }

    /// The driver is going: whoever serves a queue stops soon.
    pub(super) fn begin_to_close(&self) {
        self.closing.store(true, SeqCst);
    }

    /// The driver is gone: lets go of its memory, once whoever serves a queue
    /// has come to an end.
    pub(super) fn close(&self) {
        for lane in &self.lanes {
            lane.lock().unwrap_or_else(PoisonError::into_inner).open = None;
        }
    }

    /// Where the driver notifies of `queue`, if it has enabled it.
    pub(super) fn kick(&self, queue: u16) -> Option<Arc<EventFd>> {
        let lane = self.lock(queue)?;
        lane.open.as_ref().map(ServedQueue::kick_file)
    }

    fn lock(&self, queue: u16) -> Option<MutexGuard<'_, OneLane>> {
        let lane = self.lanes.get(usize::from(queue))?;
        Some(lane.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Doorbell for Lanes {
    fn ring(&self, queue: u16) {
        if self.closing.load(SeqCst) {
            return;
        }
        let Some(mut lane) = self.lock(queue) else {
            return;
        };
        if let OneLane {
            open: Some(open),
            handler,
        } = &mut *lane
        {
            open.turn(&mut **handler, &|| !self.closing.load(SeqCst));
        }
    }
}
