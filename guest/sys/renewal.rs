// SPDX-License-Identifier: GPL-2.0

//! Devices that ask to be reset: DEVICE_NEEDS_RESET, section 2.1.1 of virtio 1.2.
//!
//! Work resets the device and sets it up anew: the driver sees the device go away and come back,
//! as when the bus resets it.
//!
//! # Locks
//!
//! The work needs the locks under which the driver core probes and removes the device, and the bus
//! resets and suspends it. Whoever removes the device waits, with these locks, for the work to end.
//! So the work only tries to take them, and comes back later.

use super::{
    bindings,
    work::{
        Queued,
        WorkQueue, //
    },
};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    impl_has_delayed_work, new_delayed_work,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    },
    time::{
        msecs_to_jiffies,
        Instant,
        Monotonic, //
    },
    workqueue::{
        DelayedWork,
        WorkItem, //
    },
};

/// When to try the locks again, in milliseconds. They are held while somebody else sets the device
/// up or removes it.
const RETRY_MS: u32 = 50;

/// Between two resets, in milliseconds: the least, and what doubling it each time ends at. A device
/// that asks without end does not keep a CPU busy, nor fill the log.
const PAUSE_MS: i64 = 100;
const LONGEST_PAUSE_MS: i64 = 10_000;

/// When all is well again, in milliseconds: the next reset is not put off.
const CALM_MS: i64 = 60_000;

/// Resets one device when that is needed.
pub(crate) struct Renewal(Arc<Reset>);

/// The work that a [`Renewal`] starts. Nobody else can run it.
///
/// # Invariants
///
/// Until the work is disabled, `vdev` is valid, and bound to the driver that made this whenever
/// nobody holds its lock.
#[pin_data]
struct Reset {
    vdev: NonNull<bindings::virtio_device>,
    /// The driver wants a reset, whether the device asks for it or not.
    is_demanded: Atomic<bool>,
    pace: Pace,
    workqueue: Arc<WorkQueue>,
    #[pin]
    work: DelayedWork<Reset>,
}

// SAFETY: Virtio devices may be used by any task.
unsafe impl Send for Reset {}
// SAFETY: The device is used with its locks held only.
unsafe impl Sync for Reset {}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Reset { self.work }
}

impl Queued for Reset {
    fn own_workqueue(&self) -> &WorkQueue {
        &self.workqueue
    }
}

impl WorkItem for Reset {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let Some(held) = Held::try_new(&this) else {
            return this.workqueue.queue(&this, msecs_to_jiffies(RETRY_MS));
        };
        let asks = held.asks();
        if !asks && !this.is_demanded.load(Acquire) {
            return;
        }
        let wait = this.pace.wait_ms();
        if wait > 0 {
            return this.workqueue.queue(&this, msecs_to_jiffies(wait));
        }
        if asks {
            pr_notice!("the device asks to be reset\n");
        }
        this.is_demanded.store(false, Release);
        held.renew();
        this.pace.step();
    }
}

/// How soon a device is reset again. Used by the work only, which does not run twice at a time.
struct Pace {
    start: Instant<Monotonic>,
    /// The last reset, in milliseconds after `start`.
    last: Atomic<i64>,
    pause: Atomic<i64>,
}

impl Pace {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            last: Atomic::new(0),
            pause: Atomic::new(0),
        }
    }

    /// Milliseconds until the next reset may be done.
    fn wait_ms(&self) -> u32 {
        let since = self.start.elapsed().as_millis() - self.last.load(Relaxed);
        if since >= CALM_MS {
            self.pause.store(0, Relaxed);
        }
        (self.pause.load(Relaxed) - since)
            .clamp(0, LONGEST_PAUSE_MS)
            .try_into()
            .unwrap_or(0)
    }

    /// A reset was done.
    fn step(&self) {
        let pause = self.pause.load(Relaxed);
        self.last.store(self.start.elapsed().as_millis(), Relaxed);
        self.pause
            .store((pause * 2).clamp(PAUSE_MS, LONGEST_PAUSE_MS), Relaxed);
    }
}

impl Renewal {
    /// For a device, with the freezable workqueue that it is reset on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// Until [`Self::end`] has returned, `vdev` must be valid, and be bound to the driver whenever
    /// nobody holds its lock.
    pub(super) unsafe fn new(
        vdev: NonNull<bindings::virtio_device>,
        workqueue: Arc<WorkQueue>,
    ) -> Result<Arc<Self>> {
        // INVARIANT: By this function's precondition.
        let reset = Arc::pin_init(
            pin_init!(Reset {
                vdev,
                is_demanded: Atomic::new(false),
                pace: Pace::new(),
                workqueue,
                work <- new_delayed_work!("tmem::Renewal"),
            }),
            GFP_KERNEL,
        )?;
        Ok(Arc::new(Self(reset), GFP_KERNEL)?)
    }

    /// Resets the device soon, if it asks for that. In any context.
    pub(super) fn look(&self) {
        self.0.workqueue.queue(&self.0, 0);
    }

    /// Resets the device soon. In any context.
    pub(crate) fn demand(&self) {
        self.0.is_demanded.store(true, Release);
        self.look();
    }

    /// Nothing is done any more when this returns. Called with the device's lock held, and not
    /// from a reset that is done here.
    pub(super) fn end(&self) {
        self.0.workqueue.disable_sync(&self.0);
    }
}

/// The locks of a device.
struct Held<'a>(&'a Reset);

impl<'a> Held<'a> {
    /// Takes the locks, unless somebody has one of them.
    fn try_new(reset: &'a Reset) -> Option<Self> {
        // SAFETY: Called from the work only, so the device is valid by the type invariant.
        let is_locked = unsafe { bindings::tmem_virtio_trylock(reset.vdev.as_ptr()) };
        // Not `then_some`: a value that is made and not used would unlock what others have locked.
        is_locked.then(|| Self(reset))
    }

    fn asks(&self) -> bool {
        // SAFETY: As in `try_new`.
        unsafe { bindings::tmem_virtio_needs_reset(self.0.vdev.as_ptr()) }
    }

    fn renew(&self) {
        let vdev = self.0.vdev.as_ptr();
        // SAFETY: The device is valid and was bound when its lock was taken; the locks keep it from being probed, removed,
        // reset or suspended meanwhile. Between the two calls it has no queues.
        let result = unsafe {
            to_result(bindings::virtio_device_reset_prepare(vdev)).and_then(|()| {
                bindings::tmem_virtio_take_features(vdev);
                to_result(bindings::virtio_device_reset_done(vdev))
            })
        };
        if let Err(err) = result {
            pr_err!(
                "the device was reset, but can't be used ({:?}): mend its daemon, then plug the device again, or unload virtio_tmem and load it again\n",
                err,
            );
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: The locks were taken by `try_new`, and the device is still bound, because they
        // were held.
        unsafe { bindings::tmem_virtio_unlock(self.0.vdev.as_ptr()) }
    }
}
