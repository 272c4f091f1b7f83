// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A [`Personality`] on the VMM's transport.
//!
//! Its queues can be served on the thread of the vCPU that makes the requests: no other
//! thread has to wake first. [`Serve::Thread`] gives each queue a thread instead, which
//! frees the vCPU.

mod lanes;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use tmem_host::personality::Personality;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Activation, Backend, COMMON_FEATURES, Doorbell, Source, VirtioDevice, Worker};
use crate::confine::Role;
use crate::event;
use lanes::Lanes;

/// Most descriptors of each queue: what drivers use of it is 256 with other VMMs
/// too.
const QUEUE_SIZE: u16 = 256;

/// Where the requests of a driver are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serve {
    /// On the thread of the vCPU that makes them.
    #[default]
    Vcpu,
    /// On a thread for each queue.
    Thread,
}

/// A personality as a device on the transport.
pub struct Served {
    personality: Arc<dyn Personality>,
    lanes: Arc<Lanes>,
    serve: Serve,
    workers: Vec<Worker>,
}

impl Served {
    /// Puts `personality` on the transport. Starts its threads: the system shows `name` and
    /// a number of each; `role` says which system calls they may make.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor to give.
    pub fn new(
        name: &str,
        role: Role,
        personality: Arc<dyn Personality>,
        serve: Serve,
    ) -> io::Result<Self> {
        let queues = u16::try_from(personality.queue_sizes().len()).unwrap_or(u16::MAX);
        let lanes = Arc::new(Lanes::new(&personality, queues));
        let raised = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let wake = raised.clone();
        personality.set_wake(Some(Box::new(move || event::set(&wake))));
        let woken = personality.woken_queue();
        let per_thread: Vec<Vec<u16>> = match serve {
            // One thread for events, and for what a vCPU leaves because it would
            // be busy with it for too long.
            Serve::Vcpu => vec![(0..queues).collect()],
            Serve::Thread => (0..queues).map(|queue| vec![queue]).collect(),
        };
        let mut workers = Vec::new();
        for (nth, queues) in per_thread.into_iter().enumerate() {
            let backend = LaneBackend {
                raised: woken
                    .filter(|woken| queues.contains(woken))
                    .map(|woken| (woken, raised.clone())),
                queues,
                lanes: lanes.clone(),
                kicks: Vec::new(),
            };
            workers.push(Worker::new(&format!("{name}{nth}"), role, backend)?);
        }
        Ok(Self {
            personality,
            lanes,
            serve,
            workers,
        })
    }
}

impl VirtioDevice for Served {
    fn id(&self) -> u32 {
        self.personality.id()
    }

    fn features(&self) -> u64 {
        COMMON_FEATURES | self.personality.features()
    }

    fn queue_sizes(&self) -> Vec<u16> {
        let sizes = self.personality.queue_sizes().into_iter();
        sizes.map(|size| size.min(QUEUE_SIZE)).collect()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        let len = u32::try_from(data.len()).unwrap_or_default();
        data.copy_from_slice(&self.personality.read_config(offset, len));
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let Ok(offset) = u32::try_from(offset) {
            self.personality.write_config(offset, data);
        }
    }

    fn activate(&mut self, mut activation: Activation) {
        self.personality.negotiated(activation.features);
        let queues = std::mem::take(&mut activation.queues);
        self.lanes.open(&activation, queues);
        for worker in &self.workers {
            worker.start(Activation {
                memory: activation.memory.clone(),
                features: activation.features,
                queues: Vec::new(),
                interrupt: activation.interrupt.clone(),
            });
        }
    }

    fn reset(&mut self) {
        self.lanes.begin_to_close();
        for worker in &self.workers {
            worker.stop();
        }
        self.lanes.close();
    }

    fn doorbell(&self) -> Option<Arc<dyn Doorbell>> {
        match self.serve {
            Serve::Vcpu => Some(self.lanes.clone()),
            Serve::Thread => None,
        }
    }
}

/// Serves some of the lanes on a thread.
struct LaneBackend {
    lanes: Arc<Lanes>,
    queues: Vec<u16>,
    /// Notifications, beside their queues' indexes.
    kicks: Vec<(u16, Arc<EventFd>)>,
    /// The queue that is to be served when this is readable.
    raised: Option<(u16, Arc<EventFd>)>,
}

/// The number of the source that says that a queue has work of the device's.
const RAISED: usize = usize::MAX;

impl Backend for LaneBackend {
    fn start(&mut self, _: Activation) {
        self.kicks = self
            .queues
            .iter()
            .filter_map(|queue| Some((*queue, self.lanes.kick(*queue)?)))
            .collect();
        // What came before the driver was ready, and events that it has not got.
        for queue in &self.queues {
            self.lanes.ring(*queue);
        }
    }

    fn stop(&mut self) {
        self.kicks.clear();
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let kicks = self.kicks.iter().map(|(queue, kick)| Source {
            file: event::fd(kick),
            number: usize::from(*queue),
        });
        let raised = self.raised.as_ref().map(|(_, raised)| Source {
            file: event::fd(raised),
            number: RAISED,
        });
        kicks.chain(raised).collect()
    }

    fn ready(&mut self, number: usize) {
        if number == RAISED {
            if let Some((woken, raised)) = &self.raised {
                event::take(raised);
                self.lanes.ring(*woken);
            }
            return;
        }
        for (queue, kick) in &self.kicks {
            if usize::from(*queue) == number {
                event::take(kick);
                self.lanes.ring(*queue);
            }
        }
    }
}
