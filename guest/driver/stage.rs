// SPDX-License-Identifier: GPL-2.0

//! Staging: what is swapped out is copied and acknowledged at once, and given to the device in
//! [`Runs`].
//!
//! Reclaim then frees the memory in the same pass, rather than come by again when the device has
//! answered. What is staged is in the guest's memory: it is read from here, outlasts the device, and
//! stays until the device takes it. While the device does not, or has much to do, pages that are not
//! staged yet go the usual way, so that a refusal is seen by who swaps.

use super::{
    runs::{
        Place,
        Room,
        Runs,
        LONGEST, //
    },
    tuning, //
};
use crate::sys::{
    bio::{
        Bio,
        BioList,
        Outcome,
        Pages,
        Status, //
    },
    clone::{
        self,
        Clones, //
    },
    irq_lock::{
        new_irq_lock,
        IrqLock, //
    },
    split::Splits,
    staging::Staging, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc, //
    },
};

pub(super) struct Inner {
    pub(super) runs: Runs,
    /// Writes of pages that are under way.
    pub(super) waiting: BioList,
}

/// See the module.
#[pin_data]
pub(crate) struct Stage<T: Owner> {
    #[pin]
    pub(super) inner: IrqLock<Inner>,
    /// Whether there may be something, for those who look without the lock.
    pub(super) is_used: Atomic<bool>,
    pub(super) memory: KVec<Arc<Staging>>,
    pub(super) bios: Clones<Sent<T>>,
    #[pin]
    pub(super) splits: Splits,
}

/// A run that is under way.
pub(crate) struct Sent<T> {
    pub(super) owner: Arc<T>,
    pub(super) run: usize,
}

/// Something that has a stage.
pub(crate) trait Owner: Send + Sync + 'static {
    /// The device took a run, or did not. In any context.
    fn staged_ended(this: &Arc<Self>, run: usize, took: bool);
}

impl<T: Owner> clone::Purpose for Sent<T> {
    fn ended(self, status: Status) {
        T::staged_ended(&self.owner, self.run, status.is_ok());
    }
}

/// What became of a write.
pub(super) enum Written {
    /// It was staged.
    Yes,
    /// It waits, or was refused.
    Later,
    /// It would have to wait, and must not.
    Busy(Bio),
    /// It is to go to the device.
    No(Bio),
}

impl<T: Owner> Stage<T> {
    /// Room for about `pages` pages.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: u32) -> Result<Arc<Self>> {
        let count = (pages / LONGEST).clamp(tuning::LEAST_RUNS, tuning::MOST_RUNS) as usize;
        let mut memory = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            memory.push(Staging::new(LONGEST)?, GFP_KERNEL)?;
        }
        let inner = Inner {
            runs: Runs::new(count)?,
            waiting: BioList::new(),
        };
        // One for each run.
        let bios = Clones::new(count as u32)?;
        Arc::pin_init(
            try_pin_init!(Self {
                inner <- new_irq_lock!(inner, "tmem::stage"),
                is_used: Atomic::new(false),
                memory,
                bios,
                splits <- Splits::for_disk(),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Copies a write, if it is staged; lets it wait for a page that is under way, if it `may_wait`.
    pub(super) fn write(
        &self,
        bio: Bio,
        pages: Pages,
        may_grow: bool,
        may_wait: bool,
        longest: u32,
    ) -> Written {
        let mut inner = self.inner.lock();
        match inner.runs.room(pages, may_grow, longest) {
            Room::Staged => (),
            Room::Unstaged => return Written::No(bio),
            Room::Waits if !may_wait => return Written::Busy(bio),
            Room::Waits => {
                inner.waiting.push(bio);
                return Written::Later;
            }
            Room::Refused => {
                drop(inner);
                bio.end(Outcome::NoSpace);
                return Written::Later;
            }
        }
        let mut done = 0;
        while done < pages.count {
            let page = pages.index + u64::from(done);
            let place = inner.runs.place(page, pages.count - done, longest);
            // There is room.
            let Some(place) = place else { break };
            if let Some(memory) = self.memory.get(place.run) {
                memory.take(place.at, &bio, done, place.count);
            }
            done += place.count;
        }
        self.is_used.store(true, Release);
        drop(inner);
        let started = bio.start_accounting();
        bio.end_accounting(started);
        bio.end(Outcome::Ok);
        Written::Yes
    }

    /// Copies to the memory of a read as many pages as are alike. Says how many, and whether they are
    /// staged.
    pub(super) fn read(&self, bio: &mut Bio, pages: Pages) -> (u32, bool) {
        let inner = self.inner.lock();
        let (count, place) = inner.runs.alike(pages);
        if let Some(Place { run, at, count }) = place {
            if let Some(memory) = self.memory.get(run) {
                memory.give(at, bio, 0, count);
            }
        }
        (count, place.is_some())
    }

    /// Whether nothing is staged.
    pub(super) fn is_empty(&self) -> bool {
        !self.is_used.load(Acquire)
    }

    /// A run that is to be sent.
    pub(super) fn next(&self) -> Option<(usize, Pages)> {
        self.inner.lock().runs.send()
    }
}
