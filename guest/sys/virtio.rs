// SPDX-License-Identifier: GPL-2.0

//! Virtio drivers and devices.

use super::{
    bindings,
    renewal::Renewal,
    virtqueue::{
        Carrier,
        Quiesced,
        Users,
        Virtqueue, //
    },
    work::WorkQueue, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    container_of,
    error::{
        from_result,
        to_result, //
    },
    new_mutex,
    prelude::*,
    str::CStr,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    types::Opaque,
};

/// How long to sleep between looks at who still uses a device, in microseconds.
const POLL_MICROS: i64 = 100;

/// What a virtio driver does. All but `used` are called in process context, one at a time for each
/// device.
pub(crate) trait Driver: Send + Sync + 'static {
    /// A device is there, or there again after a suspension or a reset.
    ///
    /// # Errors
    ///
    /// Any: the device is then not bound.
    fn probe(this: &Arc<Self>, device: &Device<'_>) -> Result;

    /// The device goes away. Nothing of its queues may be kept.
    fn remove(this: &Arc<Self>);

    /// The device has used buffers of a queue. Called in interrupt context.
    fn used(this: &Arc<Self>, queue: u32);
}

/// A device that is being probed.
pub(crate) struct Device<'a> {
    vdev: NonNull<bindings::virtio_device>,
    queues: &'a Mutex<Option<Arc<QueueSet>>>,
    renewal: &'a Arc<Renewal>,
    is_again: bool,
    callback: unsafe extern "C" fn(*mut bindings::virtqueue),
}

/// The first `N` bytes of configuration space. `N` is a multiple of 8.
///
/// # Safety
///
/// `vdev` must be valid.
unsafe fn read_config<const N: usize>(vdev: NonNull<bindings::virtio_device>) -> [u8; N] {
    const { assert!(N % 8 == 0) };
    let mut config = [0; N];
    // SAFETY: The device is valid by this function's precondition, and `config` has `N` bytes.
    unsafe {
        bindings::tmem_virtio_read_config(vdev.as_ptr(), config.as_mut_ptr().cast(), N as u32)
    };
    config
}

impl Device<'_> {
    /// The first `N` bytes of configuration space, which is constant. `N` is a multiple of 8. Some
    /// front ends end the machine when they are asked while the device's back end is gone.
    pub(crate) fn read_config<const N: usize>(&self) -> [u8; N] {
        // SAFETY: The device is valid while it is probed.
        unsafe { read_config(self.vdev) }
    }

    /// Whether this very device was probed before, and has only been reset or suspended since.
    pub(crate) fn is_again(&self) -> bool {
        self.is_again
    }

    /// What resets the device.
    pub(crate) fn renewal(&self) -> Arc<Renewal> {
        self.renewal.clone()
    }

    /// Sets up the first queues, `most` of them, or as many as the device has, but no fewer than
    /// `least`; and with them the interrupts, also that for changes of the configuration.
    ///
    /// # Errors
    ///
    /// `EBUSY` when the device's queues are set up already, `EINVAL` or `ENOENT` when it has fewer
    /// than `least`, else what the transport says.
    pub(crate) fn find_queues(&self, least: usize, most: usize) -> Result<Arc<QueueSet>> {
        let mut slot = self.queues.lock();
        if slot.is_some() {
            return Err(EBUSY);
        }
        let users = Users::new()?;
        let mut raw = KVec::from_elem(core::ptr::null_mut(), most, GFP_KERNEL)?;
        let mut vqs = KVec::with_capacity(most, GFP_KERNEL)?;
        let mut count = most;
        loop {
            // SAFETY: The device is valid while it is probed, `raw` has room for `most` pointers,
            // and the callback is that of the driver which the device is bound to. A try that fails
            // leaves no queue behind.
            let found = to_result(unsafe {
                bindings::tmem_virtio_find_vqs(
                    self.vdev.as_ptr(),
                    count as u32,
                    raw.as_mut_ptr(),
                    Some(self.callback),
                )
            });
            match found {
                Ok(()) => break,
                // What transports say of a queue that the device does not have.
                Err(err) if (err == EINVAL || err == ENOENT) && count > least => count -= 1,
                Err(err) => return Err(err),
            }
        }
        for vq in raw.into_iter().take(count) {
            // Cannot fail: the room is there.
            let _ = vqs.push_within_capacity(RawQueue(NonNull::new(vq)));
        }
        let open = Open {
            vdev: self.vdev,
            vqs,
        };
        let set = Arc::pin_init(
            pin_init!(QueueSet {
                open <- new_mutex!(Some(open), "QueueSet::open"),
                count,
                users,
            }),
            GFP_KERNEL,
        );
        match set {
            Ok(set) => {
                *slot = Some(set.clone());
                Ok(set)
            }
            Err(err) => {
                // SAFETY: The queues were set up above, and nobody has them.
                unsafe { bindings::tmem_virtio_del_vqs(self.vdev.as_ptr()) };
                Err(err)
            }
        }
    }
}

/// A queue that nobody has taken yet.
struct RawQueue(Option<NonNull<bindings::virtqueue>>);

/// A device whose queues are set up.
///
/// # Invariants
///
/// The device is valid, and so are the queues in `vqs`.
struct Open {
    vdev: NonNull<bindings::virtio_device>,
    vqs: KVec<RawQueue>,
}

// SAFETY: Virtio devices may be used by any task.
unsafe impl Send for Open {}

/// The queues of a device. They end with the binding of device and driver, whoever still has this.
#[pin_data]
pub(crate) struct QueueSet {
    #[pin]
    open: Mutex<Option<Open>>,
    count: usize,
    users: Arc<Users>,
}

impl QueueSet {
    /// Queues that were set up.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// As [`Device::read_config`], once the device is probed. Nothing when it is gone.
    pub(crate) fn read_config<const N: usize>(&self) -> Option<[u8; N]> {
        let open = self.open.lock();
        let open = (*open).as_ref()?;
        // SAFETY: The device is valid by the type invariant.
        Some(unsafe { read_config(open.vdev) })
    }

    /// Takes a queue. Each can be taken once.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is gone or has no such queue.
    pub(crate) fn take<T: Carrier>(&self, index: usize) -> Result<Virtqueue<T>> {
        let mut open = self.open.lock();
        let open = (*open).as_mut().ok_or(ENODEV)?;
        let vq = open.vqs.get_mut(index).and_then(|vq| vq.0.take());
        // SAFETY: The queue is valid, was just set up, is taken by nobody else, and `close` waits
        // for the users.
        vq.map(|vq| unsafe { Virtqueue::from_raw(vq, self.users.clone()) })
            .ok_or(ENODEV)
    }

    /// Lets the device use its queues.
    pub(crate) fn set_ready(&self) {
        if let Some(open) = &*self.open.lock() {
            // SAFETY: The device is valid by the type invariant.
            unsafe { bindings::tmem_virtio_ready(open.vdev.as_ptr()) };
        }
    }

    /// Whether the device asks to be reset: no answer is to be expected then.
    pub(crate) fn needs_reset(&self) -> bool {
        (*self.open.lock())
            .as_ref()
            // SAFETY: The device is valid by the type invariant.
            .is_some_and(|open| unsafe { bindings::tmem_virtio_needs_reset(open.vdev.as_ptr()) })
    }

    /// Resets the device: it touches no buffer any more, and no callback runs. Nobody may be
    /// adding buffers meanwhile.
    pub(crate) fn reset(&self) -> Quiesced {
        if let Some(open) = &*self.open.lock() {
            self.reset_open(open);
        }
        // A device that is closed was reset before.
        Quiesced(self.users.clone())
    }

    fn reset_open(&self, open: &Open) {
        while self.users.doorbells() > 0 {
            fsleep(Delta::from_micros(POLL_MICROS));
        }
        // SAFETY: The device is valid by the type invariant, and no doorbell is being rung.
        unsafe { bindings::tmem_virtio_reset(open.vdev.as_ptr()) };
    }

    /// Resets the device, waits until nobody has a queue, and deletes the queues.
    fn close(&self) {
        let Some(open) = self.open.lock().take() else {
            return;
        };
        self.reset_open(&open);
        while self.users.queues() > 0 || self.users.doorbells() > 0 {
            fsleep(Delta::from_micros(POLL_MICROS));
        }
        // SAFETY: The device is valid by the type invariant, was reset, and nobody has a queue.
        unsafe { bindings::tmem_virtio_del_vqs(open.vdev.as_ptr()) };
    }
}

/// What a bound device's `priv` points to.
#[pin_data]
struct Binding<T: Driver> {
    driver: Arc<T>,
    renewal: Arc<Renewal>,
    /// The device was probed before.
    was_probed: Atomic<bool>,
    #[pin]
    queues: Mutex<Option<Arc<QueueSet>>>,
}

impl<T: Driver> Binding<T> {
    fn probe(&self, vdev: NonNull<bindings::virtio_device>) -> Result {
        let device = Device {
            vdev,
            queues: &self.queues,
            renewal: &self.renewal,
            is_again: self.was_probed.xchg(true, Full),
            callback: Callbacks::<T>::used,
        };
        T::probe(&self.driver, &device).inspect_err(|_| self.close())?;
        // What the device asked for before it was ready it need not have notified.
        self.renewal.look();
        Ok(())
    }

    fn remove(&self) {
        T::remove(&self.driver);
        self.close();
    }

    fn close(&self) {
        let queues = self.queues.lock().take();
        if let Some(queues) = queues {
            queues.close();
        }
    }
}

/// A registered driver.
///
/// # Invariants
///
/// `driver` is registered, and its `id_table` points to `ids`.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Driver> {
    #[pin]
    driver: Opaque<bindings::virtio_driver>,
    ids: KVec<bindings::virtio_device_id>,
    data: Arc<T>,
    workqueue: Arc<WorkQueue>,
}

// SAFETY: The registration may be dropped by any task.
unsafe impl<T: Driver> Send for Registration<T> {}
// SAFETY: Has no methods, and `T` is `Sync`.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    /// Registers a driver for the devices with one of the ids. Those that ask for it are reset on
    /// the workqueue, which must be freezable.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what the driver core says.
    pub(crate) fn new<'a>(
        module: &'static ThisModule,
        name: &'static CStr,
        wanted: &'a [u32],
        data: Arc<T>,
        workqueue: Arc<WorkQueue>,
    ) -> impl PinInit<Self, Error> + 'a {
        try_pin_init!(Self {
            ids: {
                let mut ids = KVec::with_capacity(wanted.len() + 1, GFP_KERNEL)?;
                for id in wanted {
                    let id = bindings::virtio_device_id {
                        device: *id,
                        vendor: bindings::TMEM_ANY_VENDOR,
                    };
                    ids.push(id, GFP_KERNEL)?;
                }
                ids.push(bindings::virtio_device_id::default(), GFP_KERNEL)?;
                ids
            },
            data,
            workqueue,
            driver <- Opaque::try_ffi_init(|slot: *mut bindings::virtio_driver| {
                // SAFETY: `slot` is valid for writes, and zeros are valid for every field.
                unsafe {
                    slot.write_bytes(0, 1);
                    (*slot).driver.name = name.as_char_ptr();
                    (*slot).id_table = ids.as_ptr();
                    (*slot).probe = Some(Callbacks::<T>::probe);
                    (*slot).remove = Some(Callbacks::<T>::remove);
                    (*slot).config_changed = Some(Callbacks::<T>::config_changed);
                    (*slot).freeze = Some(Callbacks::<T>::freeze);
                    (*slot).restore = Some(Callbacks::<T>::restore);
                    (*slot).reset_prepare = Some(Callbacks::<T>::freeze);
                    (*slot).reset_done = Some(Callbacks::<T>::restore);
                }
                // INVARIANT: The driver is registered, and stays where it is because it is pinned.
                // SAFETY: The driver is filled in and outlives its registration. All other fields
                // are initialised before this one.
                to_result(unsafe {
                    bindings::__register_virtio_driver(slot, module.as_ptr())
                })
            }),
        })
    }
}

#[pinned_drop]
impl<T: Driver> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The driver is registered by the type invariant.
        unsafe { bindings::unregister_virtio_driver(self.driver.get()) };
    }
}

/// The functions that the driver core calls.
struct Callbacks<T>(PhantomData<T>);

impl<T: Driver> Callbacks<T> {
    /// The binding of a device.
    ///
    /// # Safety
    ///
    /// `vdev` must be valid and be bound to a driver of type `T`, at least for `'a`.
    unsafe fn binding<'a>(vdev: *mut bindings::virtio_device) -> &'a Binding<T> {
        // SAFETY: By this function's precondition `priv` is what `probe` set.
        unsafe { &*bindings::tmem_virtio_priv(vdev).cast::<Binding<T>>() }
    }

    unsafe extern "C" fn probe(vdev: *mut bindings::virtio_device) -> c_int {
        from_result(|| {
            // SAFETY: The core calls this with a valid device and the driver that it is bound to,
            // which is part of a `Registration<T>`.
            let registration = unsafe {
                let driver = bindings::tmem_virtio_driver_of(vdev);
                &*container_of!(Opaque::cast_from(driver), Registration<T>, driver)
            };
            let driver = registration.data.clone();
            let vdev = NonNull::new(vdev).ok_or(ENODEV)?;
            // SAFETY: The device is valid. It is bound when the core lets go of its lock, unless the
            // probe fails; then, or else in `remove`, this is ended.
            let renewal = unsafe { Renewal::new(vdev, registration.workqueue.clone()) }?;
            let binding = KBox::pin_init(
                pin_init!(Binding {
                    driver,
                    renewal,
                    was_probed: Atomic::new(false),
                    queues <- new_mutex!(None, "Binding::queues"),
                }),
                GFP_KERNEL,
            )?;
            // The binding is where callbacks find it before the first of them can come.
            // SAFETY: The device is valid. The binding is not moved out of its box, and is freed
            // after the queues are deleted, in `remove` or below.
            unsafe {
                bindings::tmem_virtio_set_priv(
                    vdev.as_ptr(),
                    core::ptr::from_ref(&*binding).cast_mut().cast(),
                )
            };
            binding.probe(vdev).inspect_err(|_| binding.renewal.end())?;
            // SAFETY: The value is not moved: it goes back into a pinned box in `remove`.
            let _ = KBox::into_raw(unsafe { Pin::into_inner_unchecked(binding) });
            Ok(0)
        })
    }

    unsafe extern "C" fn remove(vdev: *mut bindings::virtio_device) {
        // SAFETY: The core calls this once for each device that was probed.
        let binding: KBox<Binding<T>> =
            unsafe { KBox::from_raw(bindings::tmem_virtio_priv(vdev).cast()) };
        let binding = KBox::into_pin(binding);
        binding.remove();
        binding.renewal.end();
        // One that could not be set up again after a reset has no queues, and was not reset above.
        // SAFETY: The device is valid, and has no queues any more.
        unsafe { bindings::tmem_virtio_reset(vdev) };
    }

    unsafe extern "C" fn freeze(vdev: *mut bindings::virtio_device) -> c_int {
        // SAFETY: The core calls this for a bound device, and not beside `remove`.
        unsafe { Self::binding(vdev) }.remove();
        0
    }

    unsafe extern "C" fn restore(vdev: *mut bindings::virtio_device) -> c_int {
        from_result(|| {
            // SAFETY: As in `freeze`.
            let binding = unsafe { Self::binding(vdev) };
            binding.probe(NonNull::new(vdev).ok_or(ENODEV)?)?;
            Ok(0)
        })
    }

    unsafe extern "C" fn config_changed(vdev: *mut bindings::virtio_device) {
        // The configuration is constant, so what has changed is the status.
        // SAFETY: The core calls this for a bound device, and not beside `remove`.
        unsafe { Self::binding(vdev) }.renewal.look();
    }

    unsafe extern "C" fn used(vq: *mut bindings::virtqueue) {
        // SAFETY: The core calls this with a valid queue of a device that is bound: queues are
        // deleted before the binding is freed.
        let (index, binding) = unsafe { ((*vq).index, Self::binding((*vq).vdev)) };
        T::used(&binding.driver, index);
    }
}
