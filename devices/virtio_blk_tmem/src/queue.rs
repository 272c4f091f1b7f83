// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a virtqueue to the executor and back. Requests are run and completed in the order in
//! which the driver made them available.

use virtio_queue::Queue;
use virtio_serve::{GoOn, Requests, Step};
use vm_memory::GuestMemory;

use crate::disk::Disk;
use crate::execute::Executor;
use crate::metrics::Served;

/// Serves a queue of a disk.
#[derive(Debug, Default)]
pub struct RequestQueue {
    requests: Requests,
    executor: Executor,
}

impl RequestQueue {
    /// Runs one request, if there is one. A request that takes long asks `go_on` now and then
    /// whether it may; one that is stopped is run again from its start.
    pub fn step<M: GuestMemory>(
        &mut self,
        disk: &Disk,
        mem: &M,
        queue: &mut Queue,
        go_on: GoOn<'_>,
    ) -> Step {
        // What nobody asked for.
        let _ = self.executor.served();
        let lost = disk.memory_lost();
        let report = |fault: virtio_serve::RingFault| disk.metrics().fault(fault.into());
        let taken = match self.requests.take(mem, lost, queue, report) {
            Ok(taken) => taken,
            Err(step) => return step,
        };
        let source = self.requests.source(mem, lost);
        let sink = self.requests.sink(mem, lost);
        let broken = taken.outcome.err();
        match self
            .executor
            .run(disk, broken.map(Into::into), source, sink, go_on)
        {
            Some(len) => taken.complete(mem, lost, queue, len, report),
            None => taken.stop(queue),
        }
    }

    /// What the last step has served, once, for who knows how long that took; `None` if there
    /// was nothing to serve.
    pub fn served(&mut self) -> Option<Served> {
        self.executor.served()
    }
}
