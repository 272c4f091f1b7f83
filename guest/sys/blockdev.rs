// SPDX-License-Identifier: GPL-2.0

//! Block devices of others.

use super::bindings;
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    prelude::*,
    str::CStr, //
};

/// A block device that is open, so that it does not go away; its hardware may.
///
/// # Invariants
///
/// `file` is an open file of the block device `bdev`.
pub(crate) struct BlockDevice {
    file: NonNull<kernel::bindings::file>,
    bdev: NonNull<kernel::bindings::block_device>,
}

// SAFETY: Open block devices may be used by any task.
unsafe impl Send for BlockDevice {}
// SAFETY: The methods only read what does not change, or is meant to be read by anybody.
unsafe impl Sync for BlockDevice {}

impl BlockDevice {
    /// Opens the device, not exclusively.
    ///
    /// # Errors
    ///
    /// `ENXIO` when there is none, or what its driver says.
    pub(crate) fn open(major: u32, minor: u32) -> Result<Self> {
        // SAFETY: Has no preconditions beyond being called in process context.
        let file = from_err_ptr(unsafe { bindings::tmem_bdev_open(major, minor) })?;
        // SAFETY: The file is one of a block device.
        let bdev = unsafe { kernel::bindings::file_bdev(file) };
        match (NonNull::new(file), NonNull::new(bdev)) {
            // INVARIANT: As above.
            (Some(file), Some(bdev)) => Ok(Self { file, bdev }),
            _ => Err(ENXIO),
        }
    }

    pub(super) fn as_ptr(&self) -> *mut kernel::bindings::block_device {
        self.bdev.as_ptr()
    }

    pub(super) fn disk(&self) -> *mut kernel::bindings::gendisk {
        // SAFETY: By the type invariant; the disk of a block device does not change.
        unsafe { (*self.as_ptr()).bd_disk }
    }

    /// The disk's first sector that belongs to the device, and the one after the last.
    pub(crate) fn sectors(&self) -> (u64, u64) {
        // SAFETY: By the type invariant.
        unsafe {
            let from = (*self.as_ptr()).bd_start_sect;
            (from, from + (*self.as_ptr()).bd_nr_sectors)
        }
    }

    /// Why it can't have a filter, if it can't. Only while its disk has no hook.
    pub(crate) fn unsuitable(&self) -> Option<&'static CStr> {
        // SAFETY: By the type invariant.
        let reason = unsafe { bindings::tmem_bdev_unsuitable(self.as_ptr()) };
        // SAFETY: What is not null is a string of the module's.
        (!reason.is_null()).then(|| unsafe { CStr::from_ptr(reason.cast()) })
    }

    /// Whether somebody else has it open, too: it is mounted, swapped on, or used by a program or by
    /// a disk above it.
    pub(crate) fn is_in_use(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::tmem_bdev_openers(self.as_ptr()) > 1 }
    }

    /// What is another one when the disk is no longer the same: its number, which is a new one for
    /// each medium or file that is put in, and the size of the device.
    pub(crate) fn identity(&self) -> Identity {
        // SAFETY: By the type invariant.
        unsafe {
            Identity {
                sequence: (*self.disk()).diskseq,
                sectors: (*self.as_ptr()).bd_nr_sectors,
            }
        }
    }

    /// Whether its disk is still there.
    pub(crate) fn is_live(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { kernel::bindings::disk_live(self.disk()) }
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::tmem_bdev_close(self.file.as_ptr()) };
    }
}

/// The disk of a block device. It, and its driver, do not go away; its hardware may.
///
/// # Invariants
///
/// Points to a disk of which this has a reference, and one to the module of its driver.
pub(super) struct Disk(NonNull<kernel::bindings::gendisk>);

// SAFETY: References to disks may be dropped by any task.
unsafe impl Send for Disk {}
// SAFETY: Nothing is done through it.
unsafe impl Sync for Disk {}

impl Disk {
    pub(super) fn of(device: &BlockDevice) -> Self {
        // SAFETY: The device is open, so its disk is valid and its driver in use. An open block device
        // has a disk.
        Self(unsafe {
            bindings::tmem_disk_get(device.disk());
            NonNull::new_unchecked(device.disk())
        })
    }

    pub(super) fn as_ptr(&self) -> *mut kernel::bindings::gendisk {
        self.0.as_ptr()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::tmem_disk_put(self.as_ptr()) };
    }
}

/// See [`BlockDevice::identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    sequence: u64,
    sectors: u64,
}

/// A private copy of a block device: bios that are submitted to it reach the disk without passing
/// the filter again.
///
/// # Invariants
///
/// A copy of the block device that `of` points to, and freed only when no bio has it any more.
pub(crate) struct Shadow {
    copy: NonNull<kernel::bindings::block_device>,
    of: NonNull<kernel::bindings::block_device>,
}

// SAFETY: As for the block device itself.
unsafe impl Send for Shadow {}
// SAFETY: As above.
unsafe impl Sync for Shadow {}

impl Shadow {
    /// Makes the copy.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `of` must be valid for as long as the copy is. The copy must be dropped only when no bio and
    /// no request has it any more.
    pub(super) unsafe fn new(of: NonNull<kernel::bindings::block_device>) -> Result<Self> {
        // SAFETY: By this function's precondition.
        let copy = unsafe {
            let is_mq = bindings::tmem_disk_is_mq((*of.as_ptr()).bd_disk);
            bindings::tmem_bdev_shadow(of.as_ptr(), is_mq)
        };
        // INVARIANT: As above.
        NonNull::new(copy)
            .map(|copy| Self { copy, of })
            .ok_or(ENOMEM)
    }

    pub(super) fn as_ptr(&self) -> *mut kernel::bindings::block_device {
        self.copy.as_ptr()
    }

    /// Whether this is a copy of `bdev`.
    pub(super) fn is_of(&self, bdev: *mut kernel::bindings::block_device) -> bool {
        self.of.as_ptr() == bdev
    }

    /// The original, if this is the copy `bdev`.
    pub(super) fn original(
        &self,
        bdev: *mut kernel::bindings::block_device,
    ) -> Option<*mut kernel::bindings::block_device> {
        (self.copy.as_ptr() == bdev).then_some(self.of.as_ptr())
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        // SAFETY: The copy came from `kmalloc`, and nobody has it any more.
        unsafe { kernel::bindings::kfree(self.copy.as_ptr().cast()) };
    }
}
