// SPDX-License-Identifier: GPL-2.0

//! Character devices for ioctls, by their kernel name misc devices.
//!
//! Those of the kernel crate hand nothing to who opens them, and name no owner up to 7.2: the module
//! could be unloaded under an open file.

use super::module::wait_until_loaded;
use core::marker::PhantomPinned;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    str::CStr,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::Opaque,
    uaccess::UserPtr, //
};

/// Access for the owner, root, only.
const MODE: u16 = 0o600;

/// What answers the ioctls.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Answers an ioctl of a program that was allowed to open the device. In process context.
    ///
    /// # Errors
    ///
    /// What the program is to see; `ENOTTY` for an unknown command.
    fn ioctl(&self, command: u32, argument: UserPtr) -> Result;
}

/// A device that is registered. Dropping it removes the device; files that are open stay.
///
/// An open file holds the module. While the module is being loaded nobody can open the device:
/// opening it waits for the end of that.
///
/// # Invariants
///
/// `device` is registered, and the first field.
#[repr(C)]
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Backend> {
    #[pin]
    device: Opaque<bindings::miscdevice>,
    backend: Arc<T>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: A misc device may be removed by any task.
unsafe impl<T: Backend> Send for Registration<T> {}
// SAFETY: There is nothing to be done with a shared reference but what `open` does, which is
// thread-safe.
unsafe impl<T: Backend> Sync for Registration<T> {}

impl<T: Backend> Registration<T> {
    const OPERATIONS: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        release: Some(Self::release),
        unlocked_ioctl: Some(Self::ioctl),
        // What the arguments point to is the same for 32-bit programs.
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: bindings::compat_ptr_ioctl,
        // Whoever has the device open holds the module. The address is only taken.
        #[cfg(MODULE)]
        owner: (&raw const bindings::__this_module).cast_mut(),
        ..pin_init::zeroed()
    };

    /// Registers a device that programs with `CAP_SYS_ADMIN` can open as `/dev/NAME`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EBUSY` when there are too many devices, `EEXIST` when the name is taken.
    pub(crate) fn new(name: &'static CStr, backend: Arc<T>) -> impl PinInit<Self, Error> {
        // In this order: the device may be opened as soon as it is registered.
        try_pin_init!(Self {
            backend,
            _pin: PhantomPinned,
            device <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                let device = bindings::miscdevice {
                    minor: bindings::MISC_DYNAMIC_MINOR as c_int,
                    name: name.as_ptr().cast(),
                    fops: const { &Self::OPERATIONS },
                    mode: MODE,
                    ..pin_init::zeroed()
                };
                // SAFETY: The slot may be written to.
                unsafe { slot.write(device) };
                // SAFETY: The device is complete and pinned, and removed before it is freed.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
        }? Error)
    }

    /// # Safety
    ///
    /// `file` is being opened, and that of a device of this type.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: Reads the caller's credentials only.
        if !unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) } {
            return EPERM.to_errno();
        }
        if let Err(err) = wait_until_loaded() {
            return err.to_errno();
        }
        // SAFETY: The file is being opened. This always succeeds.
        unsafe { bindings::nonseekable_open(inode, file) };
        // SAFETY: The file is being opened, so `private_data` is its device, by the type invariant
        // the first field of a registration. That can't be dropped meanwhile: the core holds the
        // lock which removing a device takes.
        let this = unsafe { &*(*file).private_data.cast::<Self>() };
        let backend = Arc::into_raw(this.backend.clone());
        // SAFETY: The file is being opened.
        unsafe { (*file).private_data = backend.cast_mut().cast() };
        0
    }

    /// # Safety
    ///
    /// `file` was opened by `open`, and nobody uses it any more.
    unsafe extern "C" fn release(_: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` has put there what `Arc::into_raw` gave; only here it is taken back.
        drop(unsafe { Arc::from_raw((*file).private_data.cast::<T>()) });
        0
    }

    /// # Safety
    ///
    /// `file` was opened by `open`.
    unsafe extern "C" fn ioctl(
        file: *mut bindings::file,
        command: c_uint,
        argument: c_ulong,
    ) -> c_long {
        // SAFETY: `open` has put there what `Arc::into_raw` gave, and `release` comes later.
        let backend = unsafe { ArcBorrow::from_raw((*file).private_data.cast::<T>()) };
        match backend.ioctl(command, UserPtr::from_addr(argument)) {
            Ok(()) => 0,
            Err(err) => err.to_errno() as c_long,
        }
    }
}

#[pinned_drop]
impl<T: Backend> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The device is registered by the type invariant.
        unsafe { bindings::misc_deregister(self.device.get()) };
    }
}
