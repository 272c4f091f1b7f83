// SPDX-License-Identifier: GPL-2.0

//! Plugs: bios that one task submits shortly after each other, gathered.
//!
//! A task may gather bios from a reserve and then wait for another one from it. It never waits for
//! those in its own plug: the kernel empties a task's plug before the task sleeps, as it does to wait
//! for a reserve (`mempool_alloc()` sleeps in `io_schedule_timeout()`), and `unplug` allocates nothing
//! that it would have to wait for. A task that is preempted keeps its plug, but runs again without
//! anybody's help. So a plug may hold as many bios as the reserve has, or more.

use super::bio::{
    Bio,
    BioList, //
};
use core::{
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Runs `work` with a plug: bios side by side that it submits become requests together.
pub(crate) fn plugged(work: impl FnOnce()) {
    let mut plug = MaybeUninit::<kernel::bindings::blk_plug>::uninit();
    // SAFETY: The plug stays where it is until it is finished, by the same task.
    unsafe { kernel::bindings::blk_start_plug(plug.as_mut_ptr()) };
    work();
    // SAFETY: As above. A panic does not unwind.
    unsafe { kernel::bindings::blk_finish_plug(plug.as_mut_ptr()) };
}

/// Something that takes gathered bios.
pub(crate) trait Unplug: Send + Sync + 'static {
    /// Takes the bios. May be called while the task is about to sleep, so it must not sleep.
    fn unplug(this: &Arc<Self>, bios: BioList);
}

/// What the block layer allocates for us in a task's plug.
///
/// # Invariants
///
/// `owner` is null while the block layer's zeros are in place, else it comes from `Arc::into_raw`
/// and `bios` is initialised.
#[repr(C)]
struct Gathering<T> {
    cb: kernel::bindings::blk_plug_cb,
    owner: *const T,
    bios: BioList,
}

/// Gathers `bio` in the running task's plug, and gives the gathered ones to `owner` when they are
/// `most`. Gives `bio` back when the task has no plug.
pub(crate) fn gather<T: Unplug>(owner: &Arc<T>, bio: Bio, most: usize) -> Option<Bio> {
    let Some(gathering) = gathering(owner) else {
        return Some(bio);
    };
    // SAFETY: The gathering is valid, and part of the plug of the running task, so nobody else touches
    // it.
    let full = unsafe {
        (*gathering).bios.push(bio);
        (*gathering).bios.len() >= most
    };
    if full {
        // SAFETY: The callback is in the running task's plug.
        unsafe { super::bindings::tmem_unplug(gathering.cast()) };
    }
    None
}

/// What is gathered for `owner` in the running task's plug, if it has one: valid until that is emptied.
fn gathering<T: Unplug>(owner: &Arc<T>) -> Option<*mut Gathering<T>> {
    // SAFETY: The size covers the callback structure, which is the first field. `unplug` is for
    // callbacks of this type, and `T` is part of its identity.
    let cb = unsafe {
        kernel::bindings::blk_check_plugged(
            Some(unplug::<T>),
            Arc::as_ptr(owner).cast_mut().cast(),
            size_of::<Gathering<T>>() as c_int,
        )
    };
    let gathering = NonNull::new(cb)?.cast::<Gathering<T>>().as_ptr();
    // SAFETY: The callback was found by its function and owner, so it is a `Gathering<T>`; the plug
    // belongs to the running task, so nobody else touches it.
    unsafe {
        if (*gathering).owner.is_null() {
            (&raw mut (*gathering).bios).write(BioList::new());
            // INVARIANT: `bios` was initialised.
            (*gathering).owner = Arc::into_raw(owner.clone());
        }
    }
    Some(gathering)
}

/// Has `owner` unplugged with the running task's plug, with what is gathered until then. False when the
/// task has no plug.
pub(crate) fn remind<T: Unplug>(owner: &Arc<T>) -> bool {
    gathering(owner).is_some()
}

/// # Safety
///
/// `cb` must be part of a `Gathering<T>` that is off its plug's list.
unsafe extern "C" fn unplug<T: Unplug>(
    cb: *mut kernel::bindings::blk_plug_cb,
    _from_schedule: bool,
) {
    let gathering = cb.cast::<Gathering<T>>();
    // SAFETY: By this function's precondition. `gather` has filled in the structure before anybody
    // could unplug it, and it is ours to free.
    let (owner, bios) = unsafe {
        let owner = Arc::from_raw((*gathering).owner);
        let bios = (&raw const (*gathering).bios).read();
        kernel::bindings::kfree(gathering.cast());
        (owner, bios)
    };
    T::unplug(&owner, bios);
}
