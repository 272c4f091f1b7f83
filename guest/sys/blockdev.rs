// SPDX-License-Identifier: GPL-2.0

//! Block devices of others.

use super::bindings;
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    str::CStr,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    },
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

    fn as_ptr(&self) -> *mut kernel::bindings::block_device {
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

    /// Whether it can't be written to.
    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::tmem_bdev_read_only(self.as_ptr()) }
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

    /// `N` bytes from the byte `at` on, which lie in one page, if the page cache has them. Does not wait
    /// for the device. In process context.
    pub(crate) fn cached<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut to = [0; N];
        let at = i64::try_from(at).ok()?;
        // SAFETY: By the type invariant; `to` has room for as many bytes.
        let is_there = unsafe {
            bindings::tmem_bdev_cached(self.file.as_ptr(), at, to.as_mut_ptr().cast(), N)
        };
        is_there.then_some(to)
    }

    /// Has the page cache read the page with the byte `at`, and perhaps some after it. Waits for the
    /// device.
    ///
    /// # Errors
    ///
    /// What the device says.
    pub(crate) fn load(&self, at: u64) -> Result {
        let at = i64::try_from(at).map_err(|_| EINVAL)?;
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::tmem_bdev_load(self.file.as_ptr(), at) })
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

    fn again(&self) -> Self {
        // SAFETY: By the type invariant.
        unsafe { bindings::tmem_disk_get(self.as_ptr()) };
        Self(self.0)
    }

    /// Wakes the disk, if it sleeps to save power: nobody enters the queue of one that does.
    pub(super) fn wake(&self) -> Awake<'_> {
        // SAFETY: By the type invariant.
        Awake(unsafe { bindings::tmem_disk_wake(self.as_ptr()) }.then_some(self))
    }

    /// Waits until everybody may enter the disk's queue, for `ms` milliseconds at most.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT`; `EINTR` when a signal comes.
    pub(super) fn wait(&self, ms: u32) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::tmem_disk_await(self.as_ptr(), ms) })
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

/// Keeps a disk awake.
pub(super) struct Awake<'a>(Option<&'a Disk>);

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        if let Some(disk) = self.0 {
            // SAFETY: The disk is valid, and was woken.
            unsafe { bindings::tmem_disk_may_sleep(disk.as_ptr()) };
        }
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
/// It outlives the bios and requests that have it: should there be any when it is dropped, it stays.
///
/// # Invariants
///
/// `copy` is a copy of the block device that `of` points to and `keeper` keeps, and came from
/// `kmalloc`. Bios have it that hold a [`Use`] of `uses`, and requests of such bios until the disk's
/// queue was frozen.
pub(crate) struct Shadow {
    copy: NonNull<kernel::bindings::block_device>,
    of: NonNull<kernel::bindings::block_device>,
    uses: Arc<Uses>,
    keeper: ManuallyDrop<Keeper>,
}

/// What keeps the original.
enum Keeper {
    Device(#[allow(dead_code, reason = "is dropped")] Arc<BlockDevice>),
    Disk(#[allow(dead_code, reason = "is dropped")] Disk),
}

// SAFETY: As for the block device itself.
unsafe impl Send for Shadow {}
// SAFETY: As above.
unsafe impl Sync for Shadow {}

impl Shadow {
    /// A shadow of a block device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn of_device(device: &Arc<BlockDevice>) -> Result<Self> {
        // SAFETY: The keeper has the device open.
        unsafe { Self::new(device.bdev, Keeper::Device(device.clone())) }
    }

    /// A shadow of the block device that is the whole of a disk.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn of_disk(disk: &Disk) -> Result<Self> {
        // SAFETY: The disk is valid, and a disk has its own block device for as long as it is there.
        unsafe {
            let whole = NonNull::new((*disk.as_ptr()).part0).ok_or(ENXIO)?;
            Self::new(whole, Keeper::Disk(disk.again()))
        }
    }

    /// # Safety
    ///
    /// `of` must be valid for as long as `keeper` is there.
    unsafe fn new(of: NonNull<kernel::bindings::block_device>, keeper: Keeper) -> Result<Self> {
        let uses = Arc::new(Uses(Atomic::new(0)), GFP_KERNEL)?;
        // SAFETY: By this function's precondition.
        let copy = unsafe {
            let is_mq = bindings::tmem_disk_is_mq((*of.as_ptr()).bd_disk);
            bindings::tmem_bdev_shadow(of.as_ptr(), is_mq)
        };
        // INVARIANT: As above.
        Ok(Self {
            copy: NonNull::new(copy).ok_or(ENOMEM)?,
            of,
            uses,
            keeper: ManuallyDrop::new(keeper),
        })
    }

    pub(super) fn as_ptr(&self) -> *mut kernel::bindings::block_device {
        self.copy.as_ptr()
    }

    /// For one more bio that is to have it.
    pub(super) fn enter(&self) -> Use {
        self.uses.enter();
        Use(self.uses.clone())
    }

    /// Whether no bio has it.
    pub(super) fn is_quiet(&self) -> bool {
        self.uses.0.load(Acquire) < Uses::ONE
    }

    /// Freezes the disk's queue by `freeze`: unless a bio has the shadow, or gets it meanwhile, no
    /// request has it either from then on.
    pub(super) fn settle(&self, freeze: impl FnOnce()) {
        // What enters from here on sets it anew.
        let _ = self.uses.0.cmpxchg(Uses::TOUCHED, 0, Full);
        freeze();
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
        if self.uses.0.load(Acquire) != 0 {
            pr_err!("a filter went while its disk was busy: this is a bug\n");
            return;
        }
        // SAFETY: By the type invariant nobody has the copy any more. The keeper is not used again.
        unsafe {
            kernel::bindings::kfree(self.copy.as_ptr().cast());
            ManuallyDrop::drop(&mut self.keeper);
        }
    }
}

/// Counts those who have a shadow, by [`Uses::ONE`]. [`Uses::TOUCHED`] is set from the first on until
/// the disk's queue was frozen.
struct Uses(Atomic<usize>);

impl Uses {
    const TOUCHED: usize = 1;
    const ONE: usize = 2;

    fn enter(&self) {
        let mut old = self.0.load(Relaxed);
        while let Err(now) = self.0.cmpxchg(old, (old | Self::TOUCHED) + Self::ONE, Full) {
            old = now;
        }
    }
}

/// Keeps a shadow.
pub(super) struct Use(Arc<Uses>);

impl Drop for Use {
    fn drop(&mut self) {
        self.0 .0.fetch_sub(Uses::ONE, Full);
    }
}
