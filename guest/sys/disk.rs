// SPDX-License-Identifier: GPL-2.0

//! Disks that take bios, without a request queue between.

use super::{
    bindings,
    bio::Bio,
    module::wait_until_loaded, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    prelude::*,
    static_lock_class,
    str::CStr,
    sync::{
        Arc,
        ArcBorrow, //
    },
};

/// Sectors in a page.
const PAGE_SECTORS: u64 = kernel::page::PAGE_SIZE as u64 >> 9;

/// What is behind a disk.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Takes a bio that fits the disk's limits. In process context.
    fn submit(this: ArcBorrow<'_, Self>, bio: Bio);

    /// The swap slot at `page` was freed. Called with spinlocks held.
    fn slot_freed(this: ArcBorrow<'_, Self>, page: u64);

    /// An opener has closed the disk. Called with the disk's mutex held, so the disk can't be
    /// removed from here.
    fn closed(this: ArcBorrow<'_, Self>);
}

/// Limits of a disk.
pub(crate) struct Limits {
    /// Size in pages.
    pub(crate) pages: u64,
    /// Most pages in a bio.
    pub(crate) run: u32,
    /// Most pages in a discard.
    pub(crate) discard: u32,
    /// Most parts of memory in a bio.
    pub(crate) segments: u16,
    /// Longest part of memory, in bytes.
    pub(crate) segment_bytes: u32,
}

/// A disk that was added. Dropping it removes the disk.
///
/// # Invariants
///
/// The disk is valid and was added; its `private_data` comes from `Arc<T>::into_raw`.
pub(crate) struct Disk<T: Backend> {
    disk: NonNull<kernel::bindings::gendisk>,
    _backend: PhantomData<Arc<T>>,
}

// SAFETY: Disks may be used by any task.
unsafe impl<T: Backend> Send for Disk<T> {}
// SAFETY: The methods that take `&self` are thread-safe.
unsafe impl<T: Backend> Sync for Disk<T> {}

impl<T: Backend> Disk<T> {
    const OPERATIONS: kernel::bindings::block_device_operations =
        kernel::bindings::block_device_operations {
            submit_bio: Some(Self::submit_bio),
            open: Some(Self::open),
            release: Some(Self::release),
            free_disk: Some(Self::free_disk),
            swap_slot_free_notify: Some(Self::swap_slot_free_notify),
            // Whoever has the disk open holds the module. The address is only taken.
            #[cfg(MODULE)]
            owner: (&raw const kernel::bindings::__this_module).cast_mut(),
            ..pin_init::zeroed()
        };

    /// Adds a disk with blocks of a page, without partitions.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what the block layer says.
    pub(crate) fn new(name: &CStr, limits: &Limits, backend: Arc<T>) -> Result<Self> {
        let sectors = |pages: u32| pages.saturating_mul(PAGE_SECTORS as u32);
        let mut queue = kernel::bindings::queue_limits {
            logical_block_size: kernel::page::PAGE_SIZE as u32,
            physical_block_size: kernel::page::PAGE_SIZE as u32,
            io_opt: limits.run.saturating_mul(kernel::page::PAGE_SIZE as u32),
            max_hw_sectors: sectors(limits.run),
            max_segments: limits.segments,
            max_segment_size: limits.segment_bytes,
            max_hw_discard_sectors: sectors(limits.discard),
            discard_granularity: kernel::page::PAGE_SIZE as u32,
            ..pin_init::zeroed()
        };
        // SAFETY: The limits are valid, and the lock class lives as long as the module.
        let disk = from_err_ptr(unsafe {
            kernel::bindings::__blk_alloc_disk(
                &mut queue,
                kernel::bindings::NUMA_NO_NODE,
                static_lock_class!().as_ptr(),
            )
        })?;
        // SAFETY: The disk is valid, and not added yet, so nobody else touches it.
        unsafe {
            (*disk).flags |= kernel::bindings::GENHD_FL_NO_PART as c_int;
            (*disk).fops = const { &Self::OPERATIONS };
            (*disk).private_data = Arc::into_raw(backend).cast_mut().cast();
            // The name is zeros, the last of which stays.
            let room = (*disk).disk_name.len() - 1;
            for (to, from) in (*disk).disk_name.iter_mut().zip(name.to_bytes()).take(room) {
                *to = *from as c_char;
            }
            kernel::bindings::set_capacity(disk, limits.pages.saturating_mul(PAGE_SECTORS));
        }
        // SAFETY: The disk is valid and complete.
        let added = to_result(unsafe {
            kernel::bindings::device_add_disk(core::ptr::null_mut(), disk, core::ptr::null_mut())
        });
        if let Err(err) = added {
            // SAFETY: The disk is valid and was not added; `free_disk` frees the backend.
            unsafe { kernel::bindings::put_disk(disk) };
            return Err(err);
        }
        // INVARIANT: As above.
        NonNull::new(disk)
            .map(|disk| Self {
                disk,
                _backend: PhantomData,
            })
            .ok_or(ENOMEM)
    }

    /// Whether somebody has the disk open.
    pub(crate) fn is_open(&self) -> bool {
        // SAFETY: The disk is valid by the type invariant.
        unsafe { bindings::tmem_disk_openers(self.disk.as_ptr()) > 0 }
    }

    /// The backend of a disk.
    ///
    /// # Safety
    ///
    /// `disk` must be valid, for at least `'a`, and have been made by [`Self::new`].
    unsafe fn backend<'a>(disk: *mut kernel::bindings::gendisk) -> ArcBorrow<'a, T> {
        // SAFETY: By this function's precondition `private_data` comes from `Arc::into_raw`.
        unsafe { ArcBorrow::from_raw((*disk).private_data.cast_const().cast()) }
    }

    unsafe extern "C" fn submit_bio(bio: *mut kernel::bindings::bio) {
        let Some(bio) = NonNull::new(bio) else {
            return;
        };
        // SAFETY: The block layer hands over a valid bio of a disk with these operations, and
        // holds the disk's queue during the call.
        let (backend, bio) = unsafe {
            let disk = (*(*bio.as_ptr()).bi_bdev).bd_disk;
            (Self::backend(disk), Bio::from_raw(bio))
        };
        if let Some(bio) = bio.split_to_limits() {
            T::submit(backend, bio);
        }
    }

    unsafe extern "C" fn open(
        _: *mut kernel::bindings::gendisk,
        _: kernel::bindings::blk_mode_t,
    ) -> c_int {
        from_result(|| wait_until_loaded().map(|()| 0))
    }

    unsafe extern "C" fn release(disk: *mut kernel::bindings::gendisk) {
        // SAFETY: The block layer calls this with a valid disk with these operations.
        T::closed(unsafe { Self::backend(disk) });
    }

    unsafe extern "C" fn free_disk(disk: *mut kernel::bindings::gendisk) {
        // SAFETY: The block layer calls this once, after all other operations.
        drop(unsafe { Arc::<T>::from_raw((*disk).private_data.cast_const().cast()) });
    }

    unsafe extern "C" fn swap_slot_free_notify(
        bdev: *mut kernel::bindings::block_device,
        page: c_ulong,
    ) {
        // SAFETY: The swap code calls this with the block device that it has open.
        T::slot_freed(unsafe { Self::backend((*bdev).bd_disk) }, page as u64);
    }
}

impl<T: Backend> Drop for Disk<T> {
    fn drop(&mut self) {
        // SAFETY: The disk is valid and was added by the type invariant.
        unsafe {
            kernel::bindings::del_gendisk(self.disk.as_ptr());
            kernel::bindings::put_disk(self.disk.as_ptr());
        }
    }
}
