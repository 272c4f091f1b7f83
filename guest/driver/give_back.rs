// SPDX-License-Identifier: GPL-2.0

//! Free memory goes back to the host.
//!
//! The kernel reports blocks of free pages, and keeps them free until the report has ended. The device
//! is asked to take them; after that they may be used, and the host backs them again when they are
//! touched, with zeros or with what they had. While a report is under way, the device must be able to
//! end it only by answering or by being reset: a device that took the pages later would take them from
//! whoever has them then. So a report waits for as long as it takes; the watchdog resets a device
//! that does not answer.
//!
//! # Locks
//!
//! [`GiveBack::reporting`], then those of the kernel's registration. A report takes no mutex.

use super::{
    engine::Engine,
    tuning, //
};
use crate::{
    sys::{
        self,
        reporting::{
            self,
            Range,
            Ranges,
            Reporter,
            Reporting, //
        }, //
    },
    uapi::GivenBack,
    wire::MemoryRange, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc,
        Mutex, //
    },
};

/// See the module.
#[pin_data]
pub(crate) struct GiveBack {
    engine: Arc<Engine>,
    #[pin]
    reporting: Mutex<Option<Pin<KBox<Reporting<Relinquisher>>>>>,
}

/// What the kernel reports to.
struct Relinquisher(Arc<Engine>);

impl GiveBack {
    /// Gives nothing back yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(engine: Arc<Engine>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                engine,
                reporting <- new_mutex!(None, "tmem::GiveBack"),
            }),
            GFP_KERNEL,
        )
    }

    /// Gives free memory back from here on.
    ///
    /// # Errors
    ///
    /// `EBUSY` when another driver does, `EOPNOTSUPP` when the kernel can't, `ENOMEM`.
    pub(crate) fn begin(&self) -> Result {
        let mut reporting = self.reporting.lock();
        if reporting.is_none() {
            let relinquisher = Arc::new(Relinquisher(self.engine.clone()), GFP_KERNEL)?;
            let registration = Reporting::new(relinquisher, tuning::REPORT_ORDER, capacity());
            *reporting = Some(KBox::pin_init(registration, GFP_KERNEL)?);
        }
        Ok(())
    }

    /// Ends it. Waits for a report that is under way.
    pub(crate) fn end(&self) {
        let reporting = self.reporting.lock().take();
        drop(reporting);
    }

    /// What there is to tell; the host's limits are those of when it was last asked.
    pub(crate) fn status(&self) -> GivenBack {
        let counters = &self.engine.shared.counters;
        let is_able = self.engine.is_open() && self.engine.most_ranges.load(Relaxed) > 0;
        GivenBack {
            is_on: u32::from(self.reporting.lock().is_some()),
            is_able: u32::from(is_able),
            given_bytes: counters.given_bytes.get(),
            refused_bytes: counters.ungiven_bytes.get(),
            requests: counters.give_requests.get(),
            postponed: counters.gives_postponed.get(),
            memory_bytes: counters.memory_bytes.get(),
            backed_bytes: counters.backed_bytes.get(),
        }
    }
}

/// Ranges in a report, so that little of the memory is in it when they are the largest blocks there
/// are.
fn capacity() -> u32 {
    let blocks = (sys::memory_pages() / tuning::REPORT_PART) >> reporting::largest_order();
    (blocks as u32).clamp(1, tuning::RANGES as u32)
}

impl Reporter for Relinquisher {
    fn report(&self, ranges: Ranges<'_>) -> Result {
        let ranges = ranges.map(|Range { address, bytes }| MemoryRange { address, bytes });
        let mut ranges = ranges.peekable();
        while ranges.peek().is_some() {
            let most = self.0.most_ranges.load(Relaxed);
            if most == 0 || !self.0.is_open() {
                self.0.shared.counters.gives_postponed.add(1);
                return Err(EAGAIN);
            }
            self.0.relinquish(ranges.by_ref().take(most))?;
        }
        Ok(())
    }
}

impl Engine {
    /// Gives ranges of free memory back, at most [`tuning::RANGES`], and waits until the device has
    /// taken them or can't take them any more.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device goes away, `EIO` when it refuses the request.
    fn relinquish(self: &Arc<Self>, ranges: impl Iterator<Item = MemoryRange>) -> Result {
        let mut request = self.relinquished.lock().take().ok_or(EBUSY)?.0;
        request.set_memory(ranges);
        self.send_ready(request);
        sys::wait_until(|| self.relinquished.lock().is_some());
        let mut slot = self.relinquished.lock();
        let (request, answered) = (*slot).as_mut().ok_or(EBUSY)?;
        let counters = &self.shared.counters;
        counters.give_requests.add(1);
        let outcome = match (*answered, request.answer().status) {
            (false, _) => Err(ENODEV),
            (true, status) if !status.is_ok() => {
                counters.rejected.add(1);
                Err(EIO)
            }
            (true, _) => {
                for (range, status) in request.memory() {
                    // What the host can't take, it can't take the next time either.
                    if status.is_ok() {
                        counters.given_bytes.add(range.bytes);
                    } else {
                        counters.ungiven_bytes.add(range.bytes);
                    }
                }
                Ok(())
            }
        };
        request.clear();
        outcome
    }
}
