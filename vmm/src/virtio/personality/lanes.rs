// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The queues in service: each behind a lock of its own, so that any thread
//! can serve any of them, and several at a time.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tmem_host::personality::{GoOn, Handler, Lane, Personality, serve};
use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::event;
use crate::virtio::queue::TURN;
use crate::virtio::{Activation, ActiveQueue, Doorbell, Interrupt, Memory};

/// All queues of a device.
pub(super) struct Lanes {
    lanes: Vec<Mutex<OneLane>>,
    /// The driver is going: nobody begins to serve. Whoever waits for a lock
    /// would otherwise not get it from somebody who takes it again and again.
    closing: AtomicBool,
}

struct OneLane {
    /// There while the driver is.
    open: Option<Open>,
    /// Keeps its memory from one driver to the next.
    handler: Box<dyn Handler>,
}

#[derive(Debug)]
struct Open {
    queue: Queue,
    kick: Arc<EventFd>,
    memory: Memory,
    interrupt: Arc<Interrupt>,
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
                lane.open = Some(Open {
                    queue: active.queue,
                    kick: active.kick,
                    memory: activation.memory.clone(),
                    interrupt: activation.interrupt.clone(),
                });
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
        lane.open.as_ref().map(|open| open.kick.clone())
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
        let OneLane {
            open: Some(open),
            handler,
        } = &mut *lane
        else {
            return;
        };
        let more = serve(
            &mut **handler,
            &mut Serving {
                closing: &self.closing,
                open,
                began: Instant::now(),
            },
        );
        if more {
            // For the thread that hears of notifications.
            event::set(&open.kick);
        }
    }
}

/// A lane whose lock is held.
struct Serving<'a> {
    closing: &'a AtomicBool,
    open: &'a mut Open,
    began: Instant,
}

impl Lane for Serving<'_> {
    fn with<R>(&mut self, with: impl FnOnce(&GuestMemoryMmap, &mut Queue, GoOn<'_>) -> R) -> R {
        // Not after a turn: what starts over each time would never end.
        let mut go_on = || !self.closing.load(SeqCst);
        with(&self.open.memory, &mut self.open.queue, &mut go_on)
    }

    fn signal(&mut self) {
        self.open.interrupt.used();
    }

    fn is_wanted(&mut self) -> bool {
        // With several vCPUs a driver could keep one in here for ever, and out of
        // reach of a pause.
        self.began.elapsed() >= TURN || self.closing.load(SeqCst)
    }
}
