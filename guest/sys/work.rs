// SPDX-License-Identifier: GPL-2.0

//! Delayed work that can be moved up, cancelled and disabled.
//!
//! The kernel crate's work items can only be enqueued. A module that may be unloaded has to cancel
//! them, too.

use super::bindings;
use core::ptr::NonNull;
use kernel::{
    container_of,
    prelude::*,
    str::CStr,
    sync::Arc,
    time::Jiffies,
    workqueue::{
        HasDelayedWork,
        Work,
        WorkItem, //
    },
};

/// Something whose work item `ID` runs on a workqueue that it keeps: the kernel does not look for
/// delayed work when a workqueue is destroyed, so the workqueue has to live as long as what may wait
/// for it.
pub(crate) trait Queued<const ID: u64 = 0> {
    /// The workqueue, always the same.
    fn own_workqueue(&self) -> &WorkQueue;
}

/// An unbound workqueue with a rescuer, so that its work makes progress without memory.
pub(crate) struct WorkQueue(NonNull<kernel::bindings::workqueue_struct>);

// SAFETY: Workqueues may be used from any task.
unsafe impl Send for WorkQueue {}
// SAFETY: All operations on a workqueue are thread-safe.
unsafe impl Sync for WorkQueue {}

impl WorkQueue {
    /// Makes a workqueue of this name. A freezable one stands still while the guest is suspended.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(name: &CStr, freezable: bool) -> Result<Self> {
        // SAFETY: The name, which is copied, is a C string.
        NonNull::new(unsafe { bindings::tmem_alloc_workqueue(name.as_char_ptr(), freezable) })
            .map(Self)
            .ok_or(ENOMEM)
    }

    /// The workqueue of `item`, which should be this one. It is part of the item, so it is there for
    /// as long as the item's reference that a waiting work item has.
    fn of<'a, T: Queued<ID>, const ID: u64>(&self, item: &'a T) -> &'a Self {
        let own = item.own_workqueue();
        if !core::ptr::eq(self, own) {
            pr_err!("work is put on a workqueue that is not its own: there is a bug\n");
        }
        own
    }

    /// Runs `item` after `delay`, at the latest when `delay` is 0; an item that waits already is
    /// moved. May be called in any context.
    pub(crate) fn schedule<T, const ID: u64>(&self, item: &Arc<T>, delay: Jiffies)
    where
        T: Queued<ID>
            + HasDelayedWork<T, ID>
            + WorkItem<ID, Pointer = Arc<T>>
            + Send
            + Sync
            + 'static,
    {
        let queue = self.of::<T, ID>(item);
        let raw = Arc::into_raw(item.clone()).cast_mut();
        // SAFETY: `raw` points to a valid `T`, whose work item is part of a `delayed_work` because
        // of `HasDelayedWork`. The reference that was just leaked keeps it alive until the work
        // function runs, which takes the reference back, and with it its workqueue.
        let waited = unsafe {
            kernel::bindings::mod_delayed_work_on(
                kernel::bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                queue.0.as_ptr(),
                delayed_work::<T, ID>(raw),
                delay,
            )
        };
        if waited {
            // SAFETY: The item holds the reference of the call that enqueued it first; this one
            // was leaked above and is not needed.
            drop(unsafe { Arc::from_raw(raw.cast_const()) });
        }
    }

    /// Runs `item` after `delay`, unless it waits already or was [disabled](Self::disable_sync). May
    /// be called in any context.
    pub(crate) fn queue<T, const ID: u64>(&self, item: &Arc<T>, delay: Jiffies)
    where
        T: Queued<ID>
            + HasDelayedWork<T, ID>
            + WorkItem<ID, Pointer = Arc<T>>
            + Send
            + Sync
            + 'static,
    {
        let queue = self.of::<T, ID>(item);
        let raw = Arc::into_raw(item.clone()).cast_mut();
        // SAFETY: As in `schedule`.
        let queued = unsafe {
            kernel::bindings::queue_delayed_work_on(
                kernel::bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                queue.0.as_ptr(),
                delayed_work::<T, ID>(raw),
                delay,
            )
        };
        if !queued {
            // SAFETY: The reference was leaked above, and nobody took it.
            drop(unsafe { Arc::from_raw(raw.cast_const()) });
        }
    }

    /// As [`Self::cancel_sync`], and [`Self::queue`] does nothing from here on.
    pub(crate) fn disable_sync<T, const ID: u64>(&self, item: &Arc<T>)
    where
        T: HasDelayedWork<T, ID> + WorkItem<ID, Pointer = Arc<T>> + Send + Sync + 'static,
    {
        let raw = Arc::as_ptr(item).cast_mut();
        // SAFETY: `raw` points to a valid `T` for as long as `item` is borrowed.
        let waited =
            unsafe { kernel::bindings::disable_delayed_work_sync(delayed_work::<T, ID>(raw)) };
        if waited {
            // SAFETY: The item was enqueued with a leaked reference, and will not run.
            drop(unsafe { Arc::from_raw(raw.cast_const()) });
        }
    }

    /// Takes `item` off the queue and waits until it does not run. Only in process context, and
    /// not from the item's own function.
    pub(crate) fn cancel_sync<T, const ID: u64>(&self, item: &Arc<T>)
    where
        T: HasDelayedWork<T, ID> + WorkItem<ID, Pointer = Arc<T>> + Send + Sync + 'static,
    {
        let raw = Arc::as_ptr(item).cast_mut();
        // SAFETY: `raw` points to a valid `T` for as long as `item` is borrowed.
        let waited =
            unsafe { kernel::bindings::cancel_delayed_work_sync(delayed_work::<T, ID>(raw)) };
        if waited {
            // SAFETY: The item was enqueued with a leaked reference, and will not run.
            drop(unsafe { Arc::from_raw(raw.cast_const()) });
        }
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        // SAFETY: The queue came from `alloc_workqueue`, and nobody else has it.
        unsafe { kernel::bindings::destroy_workqueue(self.0.as_ptr()) }
    }
}

/// The C structure of a work item.
///
/// # Safety
///
/// `item` must point to a valid `T`.
unsafe fn delayed_work<T, const ID: u64>(item: *mut T) -> *mut kernel::bindings::delayed_work
where
    T: HasDelayedWork<T, ID>,
{
    // SAFETY: By this function's precondition; `HasDelayedWork` promises that the work is the
    // field `work` of a `delayed_work`.
    unsafe {
        let work = Work::raw_get(T::raw_get_work(item));
        container_of!(work, kernel::bindings::delayed_work, work)
    }
}
