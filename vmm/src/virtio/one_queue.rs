// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices with one queue whose requests are served one after the other.

use super::{Activation, Backend, Chain, ServedQueue, Source};

/// What runs the requests.
pub(super) trait Serve: Send + 'static {
    /// The driver is ready; these features are negotiated.
    fn negotiated(&mut self, _features: u64) {}

    /// Runs the request in `chain`; returns how many bytes were written there.
    fn serve(&mut self, chain: &mut Chain<'_>) -> u32;
}

/// The queue, on the device's thread.
pub(super) struct OneQueue<S> {
    served_by: S,
    queue: Option<ServedQueue>,
}

impl<S: Serve> OneQueue<S> {
    /// No driver is there yet.
    pub(super) fn new(served_by: S) -> Self {
        Self {
            served_by,
            queue: None,
        }
    }
}

impl<S: Serve> Backend for OneQueue<S> {
    fn start(&mut self, mut activation: Activation) {
        self.served_by.negotiated(activation.features);
        self.queue = activation
            .take(0)
            .map(|queue| ServedQueue::new(queue, activation.memory, activation.interrupt));
    }

    fn stop(&mut self) {
        self.queue = None;
    }

    fn sources(&self) -> Vec<Source<'_>> {
        self.queue
            .iter()
            .map(|queue| Source {
                file: queue.kick(),
                number: 0,
            })
            .collect()
    }

    fn ready(&mut self, _number: usize) {
        if let Some(queue) = &mut self.queue {
            queue.kicked();
            queue.serve(|chain| self.served_by.serve(chain));
        }
    }
}
