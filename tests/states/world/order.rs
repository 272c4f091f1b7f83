// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the driver may have outstanding at the same time: section 4 of the specification,
//! drv-serialise.

use super::task::Flush;
use super::task::Request;
use super::task::Task;
use super::Fault;
use super::World;
use crate::sys::bio::Op;
use crate::wire::Extent;

impl World {
    /// Looks at a request that is being made available.
    pub(super) fn check_order(&self, new: &Request) {
        // Other faults show themselves.
        if self.fault.is_some_and(|fault| fault != Fault::TwoPuts) {
            return;
        }
        let is_put = |request: &Request| request.bio.op() == Op::Write;
        for task in &*self.tasks.borrow() {
            let is_against = match task {
                Task::Request(old) if old.sent.is_some() => {
                    let are_puts = is_put(old) && is_put(new);
                    let are_bound = !self.is_cache() && (is_put(old) || is_put(new));
                    (are_puts || are_bound) && old.pages().overlaps(new.pages())
                }
                Task::Flush(flush) => {
                    let is_bound = !self.is_cache() && is_put(new);
                    is_bound && flush.left.iter().any(|page| new.pages().holds(*page))
                }
                _ => false,
            };
            if is_against {
                let (op, pages) = (new.bio.op(), new.pages());
                self.is_wrong(format!("{op:?} of {pages:?} while a put is outstanding"));
            }
        }
    }

    /// The same for a flush.
    pub(crate) fn check_order_of_flush(&self, extents: &[Extent]) {
        if self.fault.is_some() || self.is_cache() {
            return;
        }
        let flush = Flush::new(extents.to_vec());
        let is_put_of = |task: &Task, page: u64| {
            matches!(task, Task::Request(old)
                if old.sent.is_some() && old.bio.op() == Op::Write && old.pages().holds(page))
        };
        let tasks = self.tasks.borrow();
        let mut left = flush.left.iter();
        if left.any(|page| tasks.iter().any(|task| is_put_of(task, *page))) {
            self.is_wrong("a flush of a page while a put of it is outstanding".into());
        }
    }
}
