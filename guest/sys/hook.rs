// SPDX-License-Identifier: GPL-2.0

//! A live filter on a disk: all bios for it come here first.
//!
//! While the disk's queue is frozen, its operations are replaced by a copy of them with another
//! `submit_bio`, and its block devices are told that they have one. The block layer holds the queue
//! while `submit_bio` runs, so nothing is seen half done, and once the operations are put back and
//! the queue was frozen, nobody is in here any more.
//!
//! But it looks whether a block device has a `submit_bio` before it holds the queue. So a bio that
//! was looked at before a filter came may pass it by after that: `attach` waits for all such before
//! the filter does anything. And one that was looked at before the last filter went may come after
//! that: until none can, the disk has operations whose `submit_bio` is the kernel's own
//! `submit_bio_noacct`, which looks again.
//!
//! # Invariants
//!
//! - A disk has one hook, and that has at least one filter, but while it is made or taken off.
//! - Filters of a disk do not overlap.
//! - A bio for the disk that a filter sees lies within the filter's sectors: what reaches across
//!   the ends is split there. Bios that lie outside of all filters are passed on.
//! - A bio is passed on as a clone that is submitted to a [`Shadow`]. For a disk of blk-mq it goes
//!   past the hook from there. A disk with a `submit_bio` of its own gets it from the hook, with the
//!   block device put right.
//! - Such a disk may cut the clone and submit its rest again, to itself, as device mapper and md do,
//!   at once or from a work of theirs. It is known by where it was made, and goes to the disk again as
//!   it is. So there is one clone of a bio for each hook on its way, and no more, and as many ends of
//!   clones are nested as there are disks with filters above each other. md may pass the clone itself
//!   on to another disk: the hook of that one has not made it, and clones it.
//! - Each hook has reserves of its own for clones and for the fronts of bios, from which nobody takes
//!   but those who submit to its disk. They depend on the disks below, and never the other way round.
//! - Shadows are freed when no bio has them (each holds a use of its shadow) and then no request either
//!   (the queue was frozen once more): a request looks at its block device after its bios have ended.
//! - `swap_slot_free_notify` is called without holding the queue, with spinlocks held. So it does
//!   not look at the disk's operations, but in a list of all filters that is freed after a grace
//!   period of RCU.
//!
//! # Locks
//!
//! What the [`Writer`] is under, then `open_mutex` of the disk, then its queue is frozen. Nothing is
//! allocated while it is.

use super::{
    bindings,
    bio::Bio,
    blockdev::{
        BlockDevice,
        Disk,
        Shadow, //
    },
    clone::{
        self,
        Clones, //
    },
    split::Splits, //
};
use core::ptr::NonNull;
use kernel::{
    container_of,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        rcu,
        Arc, //
    },
    types::Opaque,
};

/// What looks at the bios of a block device.
pub(crate) trait Filter: Send + Sync + Sized + 'static {
    /// What bios that are passed on are for.
    type Purpose: clone::Purpose;

    /// Takes a bio that lies within the filter's sectors; they are counted as the disk's. In process
    /// context.
    fn submit(this: &Arc<Self>, bio: Bio);

    /// What a bio is passed on for that has nothing to do with any filter.
    fn outside(bio: Bio) -> Self::Purpose;

    /// The swap slot at `page` of the block device was freed. With spinlocks held.
    fn slot_freed(this: &Arc<Self>, page: u64);

    /// One who had the filter's disk open, or a part of it, has closed it. With the disk's
    /// `open_mutex` held.
    fn closed(this: &Arc<Self>);

    /// The disk's first sector that is the filter's, and the one after the last; always the same,
    /// whatever becomes of the block device.
    fn sectors(&self) -> (u64, u64);

    /// The shadow of the block device.
    fn shadow(&self) -> &Shadow;

    /// All filters there are.
    fn registry() -> &'static Registry<Self>;
}

/// A list of filters that is replaced as a whole. None is empty.
type List<F> = KVec<Arc<F>>;

/// Where readers find a list that is complete, or null.
struct Published<F: Filter>(Atomic<*mut List<F>>);

impl<F: Filter> Published<F> {
    const fn new() -> Self {
        Self(Atomic::new(core::ptr::null_mut()))
    }

    fn is_empty(&self) -> bool {
        self.0.load(Relaxed).is_null()
    }

    /// The list.
    ///
    /// # Safety
    ///
    /// For as long as `'a`, the list must not be freed.
    unsafe fn get<'a>(&self) -> &'a [Arc<F>] {
        // SAFETY: By this function's precondition; lists are complete before they are published.
        unsafe { self.0.load(Acquire).as_ref() }.map_or(&[], |list| list)
    }

    /// A copy of the list, with or without `filter`; none instead of an empty one, so that none is
    /// left when a hook or the module goes. The writer must be that of this list.
    fn changed(
        &self,
        _writer: &Writer<F>,
        filter: &Arc<F>,
        is_in: bool,
    ) -> Result<Option<KBox<List<F>>>> {
        // SAFETY: Lists are freed by who has borrowed the writer mutably.
        let old = unsafe { self.get() };
        let mut list = KVec::with_capacity(old.len() + 1, GFP_KERNEL)?;
        for other in old.iter().filter(|other| !Arc::ptr_eq(other, filter)) {
            list.push(other.clone(), GFP_KERNEL)?;
        }
        if is_in {
            list.push(filter.clone(), GFP_KERNEL)?;
        }
        if list.is_empty() {
            return Ok(None);
        }
        Ok(Some(KBox::new(list, GFP_KERNEL)?))
    }
}

fn into_raw<F>(list: Option<KBox<List<F>>>) -> *mut List<F> {
    list.map_or(core::ptr::null_mut(), KBox::into_raw)
}

/// Takes back what [`into_raw`] gave.
///
/// # Safety
///
/// `list` must come from there, and nobody may have it any more.
unsafe fn from_raw<F>(list: *mut List<F>) -> Option<KBox<List<F>>> {
    // SAFETY: By this function's precondition.
    (!list.is_null()).then(|| unsafe { KBox::from_raw(list) })
}

/// All filters there are, for readers under RCU.
pub(crate) struct Registry<F: Filter> {
    list: Published<F>,
    has_writer: Atomic<bool>,
}

impl<F: Filter> Registry<F> {
    /// Without filters.
    pub(crate) const fn new() -> Self {
        Self {
            list: Published::new(),
            has_writer: Atomic::new(false),
        }
    }

    /// The one who may attach and detach filters.
    ///
    /// # Errors
    ///
    /// `EBUSY` when there is one already.
    pub(crate) fn writer(&'static self) -> Result<Writer<F>> {
        if self.has_writer.xchg(true, Full) {
            return Err(EBUSY);
        }
        // INVARIANT: Nobody else got here since the flag was clear.
        Ok(Writer(self))
    }

    fn read<'a>(&'a self, _guard: &'a rcu::Guard) -> &'a [Arc<F>] {
        // SAFETY: `publish` frees a list after a grace period, which the guard holds back.
        unsafe { self.list.get() }
    }

    /// Publishes a list, and frees the one before. In process context.
    fn publish(&self, list: Option<KBox<List<F>>>, _writer: &mut Writer<F>) {
        let old = self.list.0.xchg(into_raw(list), Full);
        // SAFETY: Has no preconditions beyond being called in process context.
        unsafe { kernel::bindings::synchronize_rcu() };
        // SAFETY: Readers have found another one since, and those who have this one are done.
        drop(unsafe { from_raw(old) });
    }
}

/// May attach and detach filters: one at a time does.
///
/// # Invariants
///
/// There is no other one of this registry.
pub(crate) struct Writer<F: Filter>(&'static Registry<F>);

impl<F: Filter> Drop for Writer<F> {
    fn drop(&mut self) {
        self.0.has_writer.store(false, Release);
    }
}

/// Counts those who are under way.
pub(crate) struct Gate(Atomic<usize>);

impl Gate {
    /// With nobody under way.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self(Atomic::new(0)), GFP_KERNEL)?)
    }

    /// One more is under way.
    pub(crate) fn enter(self: &Arc<Self>) -> Flight {
        self.0.fetch_add(1, Full);
        Flight(self.clone())
    }

    /// One more is under way, until [`Self::leave`].
    pub(crate) fn join(&self) {
        self.0.fetch_add(1, Full);
    }

    /// One fewer is under way.
    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Full);
    }

    /// Whether nobody is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Acquire) == 0
    }
}

/// Is under way until it is dropped.
pub(crate) struct Flight(Arc<Gate>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0 .0.fetch_sub(1, Full);
    }
}

/// Bios that can be passed on at any one time without memory.
const RESERVE: u32 = 4;

/// How long a disk is waited for that is busy, in milliseconds. New I/O to it waits meanwhile.
const PATIENCE: u32 = 10_000;

/// See the module.
#[pin_data]
pub(crate) struct Hook<F: Filter> {
    #[pin]
    operations: Opaque<kernel::bindings::block_device_operations>,
    /// What the disk had before.
    original: *const kernel::bindings::block_device_operations,
    /// What it has after the last filter, until no bio can come any more that was for that.
    #[pin]
    parting: Opaque<kernel::bindings::block_device_operations>,
    is_mq: bool,
    clones: Clones<F::Purpose>,
    /// For bios that reach across the ends of filters.
    #[pin]
    edges: Splits,
    /// For filters that cut bios.
    #[pin]
    splits: Splits,
    /// Of this disk; changed while the queue is frozen.
    filters: Published<F>,
    /// Whose writer attaches filters.
    registry: &'static Registry<F>,
    /// For bios of the disk that are for no filter's block device.
    whole: Shadow,
    // Dropped last.
    disk: Disk,
}

// SAFETY: Is changed by one task at a time, and bios of any task may be submitted.
unsafe impl<F: Filter> Send for Hook<F> {}
// SAFETY: As above.
unsafe impl<F: Filter> Sync for Hook<F> {}

impl<F: Filter> Hook<F> {
    /// A hook for the disk of `device`. Filters are attached by `writer`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(device: &BlockDevice, writer: &Writer<F>) -> Result<Arc<Self>> {
        let registry = writer.0;
        let disk = Disk::of(device);
        // SAFETY: The disk is valid.
        let (original, is_mq) = unsafe {
            let is_mq = bindings::tmem_disk_is_mq(disk.as_ptr());
            ((*disk.as_ptr()).fops, is_mq)
        };
        let whole = Shadow::of_disk(&disk)?;
        Arc::pin_init(
            try_pin_init!(Self {
                operations <- Opaque::ffi_init(
                    |slot: *mut kernel::bindings::block_device_operations| {
                        // SAFETY: `slot` is valid for writes, and the original lives as long as
                        // the disk's driver, which `disk` keeps. The owner stays the driver.
                        unsafe {
                            slot.write(core::ptr::read(original));
                            (*slot).submit_bio = Some(Self::submit_bio);
                            (*slot).release = Some(Self::release);
                            (*slot).swap_slot_free_notify = Some(Self::swap_slot_free_notify);
                        }
                    },
                ),
                original,
                parting <- Opaque::ffi_init(
                    |slot: *mut kernel::bindings::block_device_operations| {
                        // SAFETY: As above.
                        unsafe {
                            slot.write(core::ptr::read(*original));
                            if is_mq {
                                (*slot).submit_bio = Some(kernel::bindings::submit_bio_noacct);
                            }
                        }
                    },
                ),
                is_mq,
                clones: Clones::new(RESERVE)?,
                // SAFETY: What a filter has of a front is in its gate, for which `detach` waits, or is on
                // its way to a shadow, likewise.
                edges <- unsafe { Splits::new() },
                // SAFETY: As above.
                splits <- unsafe { Splits::new() },
                filters: Published::new(),
                registry,
                whole,
                disk,
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Whether this is the hook of the disk of `device`.
    pub(crate) fn is_on(&self, device: &BlockDevice) -> bool {
        self.disk.as_ptr() == device.disk()
    }

    /// Whether no filter is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Where bios come from that are passed on to the disk.
    pub(crate) fn clones(&self) -> &Clones<F::Purpose> {
        &self.clones
    }

    /// Where the fronts of bios come from that filters cut.
    pub(crate) fn splits(&self) -> &Splits {
        &self.splits
    }

    /// A shadow of `device`, which is one of the disk's. It is to be dropped after
    /// [`Self::detach`] of the filter that it is for.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn shadow_of(&self, device: &Arc<BlockDevice>) -> Result<Shadow> {
        if !self.is_on(device) {
            return Err(EINVAL);
        }
        Shadow::of_device(device)
    }

    /// From here on `filter` gets all bios for its sectors; some it got before this returns. Reads and
    /// writes that went to the disk before have ended, but for writes to a disk that is not blk-mq: see
    /// [`Self::has_writes`].
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EBUSY` when somebody else has hooked on; `ETIMEDOUT` when the disk does not end its
    /// requests, or somebody has its queue frozen, for [`PATIENCE`]; `EINTR` when a signal comes. Then
    /// nothing has changed.
    pub(crate) fn attach(&self, filter: &Arc<F>, writer: &mut Writer<F>) -> Result {
        let _awake = self.disk.wake();
        self.disk.wait(PATIENCE)?;
        self.change(filter, true, writer)?;
        // These have no limit, as there is no way back; but the disk was idle a moment ago.
        self.pass_over(None);
        // Those that have passed the filter by have ended after this.
        self.settle();
        Ok(())
    }

    /// Waits for bios that were looked at before the disk's block devices were told something else;
    /// then gives the disk other operations.
    fn pass_over(&self, operations: Option<*const kernel::bindings::block_device_operations>) {
        if self.is_mq {
            let operations = operations.unwrap_or(core::ptr::null());
            // SAFETY: The disk is valid. The operations are those of its driver.
            unsafe { bindings::tmem_disk_pass_over(self.disk.as_ptr(), operations) };
        }
    }

    /// Whether the disk has a `submit_bio` of its own.
    pub(crate) fn takes_bios(&self) -> bool {
        !self.is_mq
    }

    /// Whether writes may be under way that no filter has seen. Those to a disk of blk-mq have ended
    /// once a filter is attached. A disk that takes bios is done with `submit_bio` long before the
    /// bio ends, but counts what is under way.
    pub(crate) fn has_writes(&self) -> bool {
        // SAFETY: The disk is valid.
        !self.is_mq && unsafe { bindings::tmem_disk_has_writes(self.disk.as_ptr()) }
    }

    /// Waits until all requests have ended that are under way.
    fn settle(&self) {
        // SAFETY: The disk is valid.
        unsafe { bindings::tmem_disk_settle(self.disk.as_ptr()) };
    }

    /// From here on `filter` gets no bio any more. It must pass on all of them already. Waits for
    /// those that are under way.
    ///
    /// # Errors
    ///
    /// As for [`Self::attach`].
    pub(crate) fn detach(&self, filter: &Arc<F>, gate: &Gate, writer: &mut Writer<F>) -> Result {
        let _awake = self.disk.wake();
        self.disk.wait(PATIENCE)?;
        self.change(filter, false, writer)?;
        if self.is_empty() {
            self.pass_over(Some(self.original));
        }
        let shadow = filter.shadow();
        super::wait_until(|| {
            gate.is_empty() && shadow.is_quiet() && (!self.is_empty() || self.whole.is_quiet())
        });
        // When filters are left, that of the whole disk may be in use, and stays.
        shadow.settle(|| self.whole.settle(|| self.settle()));
        Ok(())
    }

    /// Adds `filter` to the lists, or removes it.
    fn change(&self, filter: &Arc<F>, is_in: bool, writer: &mut Writer<F>) -> Result {
        if !core::ptr::eq(self.registry, writer.0) {
            return Err(EINVAL);
        }
        let own = self.filters.changed(writer, filter, is_in)?;
        let all = self.registry.list.changed(writer, filter, is_in)?;
        self.refit(own, writer)?;
        self.registry.publish(all, writer);
        Ok(())
    }

    /// Sets the list of the disk's filters, and frees the one before. `EBUSY` when somebody else has
    /// changed the disk's operations since: they call what is here. `ETIMEDOUT` and `EINTR` as for
    /// [`Self::attach`].
    fn refit(&self, list: Option<KBox<List<F>>>, _writer: &mut Writer<F>) -> Result {
        let filters = list.as_ref().map_or(&[][..], |list| list);
        let mut spans = KVec::with_capacity(filters.len(), GFP_KERNEL)?;
        for filter in filters {
            let (from, to) = filter.sectors();
            spans.push(bindings::tmem_span { from, to }, GFP_KERNEL)?;
        }
        let operations = if filters.is_empty() && !self.is_mq {
            // Who is to have a `submit_bio` looks for it while holding the queue.
            self.original
        } else if filters.is_empty() {
            self.parting.get().cast_const()
        } else {
            self.operations.get().cast_const()
        };
        let old = self.filters.0.load(Relaxed);
        let expected = if old.is_null() {
            self.original
        } else {
            self.operations.get().cast_const()
        };
        let list = into_raw(list);
        // SAFETY: The operations stay where they are because the hook is pinned; it is dropped after it
        // was taken off. So does the list's place, which holds such pointers.
        let done = to_result(unsafe {
            bindings::tmem_disk_refit(
                self.disk.as_ptr(),
                expected,
                operations,
                self.filters.0.as_ptr().cast(),
                list.cast(),
                spans.as_ptr(),
                spans.len() as c_uint,
                PATIENCE,
            )
        });
        let unused = if done.is_ok() { old } else { list };
        // SAFETY: The queue was frozen, so who has read the old list has left `submit_bio`, and
        // `open_mutex` was held, so nobody is in `release`. Without success the new one was never
        // published. Only who has the writer changes lists.
        drop(unsafe { from_raw(unused) });
        done
    }

    unsafe extern "C" fn submit_bio(bio: *mut kernel::bindings::bio) {
        let Some(raw) = NonNull::new(bio) else {
            return;
        };
        // SAFETY: The block layer hands over a valid bio, and holds the disk's queue: the disk's
        // operations are those of a hook, which is there until the queue was frozen.
        let (hook, bdev) = unsafe {
            let bdev = (*bio).bi_bdev;
            let operations = (*(*bdev).bd_disk).fops.cast_mut();
            let hook = container_of!(Opaque::cast_from(operations), Self, operations);
            (&*hook, bdev)
        };
        // SAFETY: The queue is held, so the list is not freed.
        let filters = unsafe { hook.filters.get() };
        // SAFETY: The bio is handed over.
        let bio = unsafe { Bio::from_raw(raw) };
        if let Some(real) = hook.unshadowed(filters, bdev) {
            // SAFETY: The bio is owned, and for the block device that `bdev` is the shadow of.
            unsafe { (*raw.as_ptr()).bi_bdev = real };
            return hook.pass_down(bio);
        }
        if hook.clones.made(&bio) {
            return hook.pass_down(bio);
        }
        let (from, to) = bio.sectors();
        let mut found = None;
        // Where the bio leaves or enters a filter's sectors first.
        let mut cut = to;
        for filter in filters {
            let (first, end) = filter.sectors();
            if from < end && first < to {
                if first <= from {
                    found = Some(filter);
                    cut = cut.min(end);
                } else {
                    cut = cut.min(first);
                }
            }
        }
        // The rest follows the front, at the end of this.
        let Some((bio, _rest)) = hook.edges.cut(bio, cut) else {
            return;
        };
        match found {
            Some(filter) => F::submit(filter, bio),
            None => {
                hook.clones.pass_on(bio, &hook.whole, F::outside);
            }
        }
    }

    unsafe extern "C" fn release(disk: *mut kernel::bindings::gendisk) {
        // SAFETY: The block layer calls this with a valid disk whose operations are those of a hook.
        // They don't change while its `open_mutex` is held, nor does the list of filters.
        let (hook, filters) = unsafe {
            let operations = (*disk).fops.cast_mut();
            let hook = container_of!(Opaque::cast_from(operations), Self, operations);
            (&*hook, (*hook).filters.get())
        };
        // SAFETY: The operations live as long as the disk's driver, which `disk` keeps.
        if let Some(release) = unsafe { (*hook.original).release } {
            // SAFETY: The call is handed on as it came.
            unsafe { release(disk) };
        }
        for filter in filters {
            F::closed(filter);
        }
    }

    /// Hands a bio to the disk's driver, as if there was no hook.
    fn pass_down(&self, bio: Bio) {
        // SAFETY: The operations live as long as the disk's driver, which `disk` keeps.
        let Some(submit) = (unsafe { (*self.original).submit_bio }) else {
            // Bios for the shadows of disks of blk-mq don't come here.
            return;
        };
        // SAFETY: The bio is handed over, for a block device of the disk, whose queue is held.
        unsafe { submit(bio.into_raw().as_ptr()) };
    }

    /// What `bdev` is the shadow of.
    fn unshadowed(
        &self,
        filters: &[Arc<F>],
        bdev: *mut kernel::bindings::block_device,
    ) -> Option<*mut kernel::bindings::block_device> {
        let shadows = filters.iter().map(|filter| filter.shadow());
        // Not as a method: the kernel's prelude has another `chain`.
        Iterator::chain(core::iter::once(&self.whole), shadows)
            .find_map(|shadow| shadow.original(bdev))
    }

    unsafe extern "C" fn swap_slot_free_notify(
        bdev: *mut kernel::bindings::block_device,
        page: c_ulong,
    ) {
        let guard = rcu::read_lock();
        let filters = F::registry().read(&guard);
        if let Some(filter) = filters.iter().find(|filter| filter.shadow().is_of(bdev)) {
            F::slot_freed(filter, page as u64);
        }
    }
}
