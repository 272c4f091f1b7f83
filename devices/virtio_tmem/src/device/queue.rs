// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a virtqueue to the executor and back. Chains are run and completed in
//! the order in which the driver made them available.

use virtio_queue::Queue;
use virtio_serve::{GoOn, Requests, Step};
use vm_memory::GuestMemory;

use super::Device;
use super::execute::Executor;
use super::latency::Served;

/// Serves a request queue.
#[derive(Debug, Default)]
pub struct RequestQueue {
    requests: Requests,
    executor: Executor,
    /// The last request that was served was a GET.
    was_get: bool,
}

impl RequestQueue {
    /// Runs one request, if there is one.
    pub fn step<M: GuestMemory>(&mut self, device: &Device, mem: &M, queue: &mut Queue) -> Step {
        self.step_while(device, mem, queue, &mut || true)
    }

    /// As [`RequestQueue::step`]; a request that takes long asks `go_on` now and then
    /// whether it may.
    pub fn step_while<M: GuestMemory>(
        &mut self,
        device: &Device,
        mem: &M,
        queue: &mut Queue,
        go_on: GoOn<'_>,
    ) -> Step {
        // What nobody asked for.
        self.served();
        let lost = device.memory_lost();
        let report = |fault| device.ring_fault(fault);
        let taken = match self.requests.take(mem, lost, queue, report) {
            Ok(taken) => taken,
            Err(step) => return step,
        };
        let sink = self.requests.sink(mem, lost);
        let len = match taken.outcome {
            Ok(()) => {
                let source = &mut self.requests.source(mem, lost);
                self.executor.run(device, mem, source, sink, go_on)
            }
            Err(fault) => Some(Executor::refuse(device, fault.into(), sink)),
        };
        match len {
            Some(len) => taken.complete(mem, lost, queue, len, report),
            None => taken.stop(queue),
        }
    }

    /// What the last step has served, once, for who knows how long that took; `None` if it is
    /// of no interest.
    pub fn served(&mut self) -> Option<Served> {
        let served = self.executor.served();
        if let Some(served) = served {
            self.was_get = served.is_get();
        }
        served
    }

    /// Whether the last of those that [`RequestQueue::served`] told was a GET.
    pub fn was_get(&self) -> bool {
        self.was_get
    }
}
