// SPDX-License-Identifier: GPL-2.0

//! Virtqueues that own what is in flight in them.

use super::{
    bindings,
    chain::Chain, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full, //
        },
        Arc, //
    },
};

/// Something that can be put into a virtqueue. It borrows nothing: a queue that is dropped leaves
/// what is in flight to the device.
pub(crate) trait Carrier: Send + 'static {
    /// The memory that the device reads and writes.
    fn chain_mut(&mut self) -> &mut Chain;
}

/// How many [`Virtqueue`]s and [`Doorbell`]s of a device there are.
pub(super) struct Users {
    queues: Atomic<usize>,
    doorbells: Atomic<usize>,
}

impl Users {
    pub(super) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self {
                queues: Atomic::new(0),
                doorbells: Atomic::new(0),
            },
            GFP_KERNEL,
        )?)
    }

    pub(super) fn queues(&self) -> usize {
        self.queues.load(Acquire)
    }

    pub(super) fn doorbells(&self) -> usize {
        self.doorbells.load(Acquire)
    }
}

/// A virtqueue whose buffers are boxed `T`s.
///
/// # Invariants
///
/// `vq` is valid: the device's queues are deleted only when [`Users`] counts none. All tokens in it
/// come from `KBox<T>`.
pub(crate) struct Virtqueue<T: Carrier> {
    vq: NonNull<bindings::virtqueue>,
    users: Arc<Users>,
    in_flight: usize,
    _buffers: PhantomData<KBox<T>>,
}

// SAFETY: A virtqueue may be used by any one task at a time, and its buffers are `Send`.
unsafe impl<T: Carrier> Send for Virtqueue<T> {}

impl<T: Carrier> Virtqueue<T> {
    /// Takes over a virtqueue.
    ///
    /// # Safety
    ///
    /// `vq` must be a valid, empty virtqueue that nobody else uses, of a device that deletes its
    /// queues only when `users` counts none.
    pub(super) unsafe fn from_raw(vq: NonNull<bindings::virtqueue>, users: Arc<Users>) -> Self {
        users.queues.fetch_add(1, Full);
        // INVARIANT: By this function's precondition.
        Self {
            vq,
            users,
            in_flight: 0,
            _buffers: PhantomData,
        }
    }

    /// Descriptors in the queue.
    pub(crate) fn size(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { bindings::virtqueue_get_vring_size(self.vq.as_ptr()) as usize }
    }

    /// Buffers in the queue.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Puts a buffer into the queue. In any context.
    ///
    /// # Errors
    ///
    /// Gives it back when there is no room, no memory, or the device is broken.
    pub(crate) fn add(&mut self, buffer: KBox<T>) -> Result<(), KBox<T>> {
        let token = KBox::into_raw(buffer);
        // SAFETY: `token` is a valid `T` that nobody else has.
        let mut lists = unsafe { (*token).chain_mut() }.lists();
        let (mut raw, readable, writable) = lists.raw();
        // SAFETY: The lists are valid and end with a mark. What they point to is owned by the
        // boxed chain, which nobody touches until the queue gives the token back.
        let err = unsafe {
            bindings::virtqueue_add_sgs(
                self.vq.as_ptr(),
                raw.as_mut_ptr(),
                readable,
                writable,
                token.cast(),
                kernel::bindings::GFP_ATOMIC,
            )
        };
        if err == 0 {
            // INVARIANT: The token comes from a `KBox<T>`.
            self.in_flight += 1;
            Ok(())
        } else {
            // SAFETY: The queue did not take the token.
            Err(unsafe { KBox::from_raw(token) })
        }
    }

    /// Takes a buffer that the device has used, with the bytes that it says it wrote.
    pub(crate) fn take_used(&mut self) -> Option<(KBox<T>, usize)> {
        let mut len = 0;
        // SAFETY: By the type invariant.
        let token = unsafe { bindings::virtqueue_get_buf(self.vq.as_ptr(), &mut len) };
        Some((self.take_back(token)?, len as usize))
    }

    /// Takes a buffer that the device has not used and, as it was reset, never will. None with the
    /// proof of another device.
    pub(crate) fn take_unused(&mut self, quiesced: &Quiesced) -> Option<KBox<T>> {
        if !Arc::ptr_eq(&self.users, &quiesced.0) {
            return None;
        }
        // SAFETY: By the type invariant.
        let token = unsafe { bindings::virtqueue_detach_unused_buf(self.vq.as_ptr()) };
        self.take_back(token)
    }

    fn take_back(&mut self, token: *mut c_void) -> Option<KBox<T>> {
        if token.is_null() {
            return None;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        // SAFETY: By the type invariant the token comes from a `KBox<T>`, and the queue gives each
        // back once.
        Some(unsafe { KBox::from_raw(token.cast()) })
    }

    /// Asks the device not to interrupt. A hint only.
    pub(crate) fn disable_interrupts(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::virtqueue_disable_cb(self.vq.as_ptr()) }
    }

    /// Asks the device to interrupt again. False when it has used buffers in between.
    #[must_use]
    pub(crate) fn enable_interrupts(&mut self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::virtqueue_enable_cb(self.vq.as_ptr()) }
    }

    /// Publishes the buffers that were added. Gives the doorbell to ring, if the device wants it.
    #[must_use]
    pub(crate) fn publish(&mut self) -> Option<Doorbell> {
        // SAFETY: By the type invariant.
        unsafe { bindings::virtqueue_kick_prepare(self.vq.as_ptr()) }.then(|| {
            self.users.doorbells.fetch_add(1, Full);
            Doorbell {
                vq: self.vq,
                users: self.users.clone(),
            }
        })
    }
}

impl<T: Carrier> Drop for Virtqueue<T> {
    fn drop(&mut self) {
        self.users.queues.fetch_sub(1, Full);
    }
}

/// Proof that a device was reset and that no callback of its queues runs. The device is the one
/// whose users these are; its queues are of no use any more.
pub(crate) struct Quiesced(pub(super) Arc<Users>);

/// A notification that the device is owed. Rung without holding the queue's lock.
///
/// # Invariants
///
/// `vq` is valid: see [`Virtqueue`].
pub(crate) struct Doorbell {
    vq: NonNull<bindings::virtqueue>,
    users: Arc<Users>,
}

impl Doorbell {
    /// Tells the device about published buffers.
    pub(crate) fn ring(self) {
        // SAFETY: By the type invariant. `virtqueue_notify` may run beside other operations.
        unsafe { bindings::virtqueue_notify(self.vq.as_ptr()) };
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        self.users.doorbells.fetch_sub(1, Full);
    }
}
