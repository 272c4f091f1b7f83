// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory that is gone: the kernel raises SIGBUS where a file was
//! truncated, or where its file system has no page left.
//!
//! The handler maps anonymous memory over the page that faulted, so that the
//! access ends, and marks the VM's memory as lost. The mark is set before the
//! page is replaced. So whoever looks at it after an access knows whether that
//! access may have met the replacement. What is lost stays lost until the
//! memory is mapped anew: a request that ran meanwhile is not completed.

#![expect(unsafe_code, reason = "handles a signal and maps memory")]

use std::ffi::c_void;
use std::io;
use std::iter::successors;
use std::ptr::{null_mut, with_exposed_provenance_mut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use vm_memory::{
    GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress,
};

use super::backing_file::FileSystem;

/// Regions of one VM that are watched at once, at most: twice what a front end may
/// announce (509), as earlier ones are watched while requests use them.
const MOST: usize = 1024;

/// Regions that room is made for at once.
const ROOM: usize = 16;

/// Whether a VM's memory was lost. There is one for each device. Once memory is watched,
/// what is behind it is never freed: the signal handler may look at it at any time. When the
/// device is gone, another one gets it.
#[derive(Clone, Debug, Default)]
pub struct Lost(Arc<Claim>);

/// A VM of the list, as long as a device has it.
#[derive(Debug, Default)]
struct Claim(OnceLock<&'static Vm>);

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(vm) = self.0.get() {
            let _changes = changes();
            vm.is_claimed.store(false, SeqCst);
        }
    }
}

impl Lost {
    /// Whether an access met memory that is gone.
    pub fn is_lost(&self) -> bool {
        self.0.0.get().is_some_and(|vm| vm.is_lost.load(SeqCst))
    }

    /// Forgets it: the VM's memory was mapped anew.
    pub fn reset(&self) {
        if let Some(vm) = self.0.0.get() {
            vm.is_lost.store(false, SeqCst);
        }
    }

    /// The VM, in the list; only with [`CHANGES`] locked.
    fn vm(&self) -> &'static Vm {
        self.0.0.get_or_init(|| {
            // A watch may outlive its device.
            if let Some(vm) = vms().find(|vm| vm.is_free()) {
                vm.is_lost.store(false, SeqCst);
                vm.is_claimed.store(true, SeqCst);
                return vm;
            }
            let vm: &Vm = Box::leak(Box::default());
            vm.is_claimed.store(true, SeqCst);
            let end = vms().last().map_or(&FIRST, |vm| &vm.next);
            // Nobody else changes the list.
            let _ = end.set(vm);
            vm
        })
    }
}

/// A VM, its watched regions, and the VM after it in the list of those that have ever had
/// any.
#[derive(Debug, Default)]
struct Vm {
    is_lost: AtomicBool,
    /// A device has it. Only changed with [`CHANGES`] locked.
    is_claimed: AtomicBool,
    slots: OnceLock<Box<Slots>>,
    next: OnceLock<&'static Vm>,
}

/// Room for some regions, and for more.
#[derive(Debug, Default)]
struct Slots {
    slots: [Slot; ROOM],
    more: OnceLock<Box<Slots>>,
}

/// A watched region. `version` is odd while the others change.
#[derive(Debug, Default)]
struct Slot {
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    page: AtomicUsize,
    /// Watches that have the region; 0: the slot is free.
    watches: AtomicUsize,
}

/// The first VM of the list.
static FIRST: OnceLock<&'static Vm> = OnceLock::new();

/// Held by whoever changes the list, or a slot. The signal handler only reads.
static CHANGES: Mutex<()> = Mutex::new(());

fn changes() -> MutexGuard<'static, ()> {
    CHANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn vms() -> impl Iterator<Item = &'static Vm> {
    successors(FIRST.get().copied(), |vm| vm.next.get().copied())
}

impl Vm {
    /// Whether neither a device nor a watch has it; only with [`CHANGES`] locked.
    fn is_free(&'static self) -> bool {
        !self.is_claimed.load(SeqCst) && self.slots().all(|slot| !slot.is_used())
    }

    fn slots(&'static self) -> impl Iterator<Item = &'static Slot> {
        let all = successors(self.slots.get(), |slots| slots.more.get());
        all.flat_map(|slots| &slots.slots)
    }

    /// The slot of a region that is watched already; only with [`CHANGES`] locked.
    fn watched(&'static self, start: usize, end: usize) -> Option<&'static Slot> {
        let mut slots = self.slots();
        slots.find(|slot| slot.is_used() && slot.is(start, end))
    }

    /// A slot for another region, unless there are too many; only with [`CHANGES`] locked.
    fn free(&'static self) -> Option<&'static Slot> {
        let mut slots = self.slots();
        slots.find(|slot| !slot.is_used()).or_else(|| {
            let all = || successors(self.slots.get(), |slots| slots.more.get());
            let room = all().count() * ROOM < MOST;
            let end = all().last().map_or(&self.slots, |slots| &slots.more);
            room.then(|| end.get_or_init(Box::default).slots.first())?
        })
    }
}

impl Slot {
    fn is_used(&self) -> bool {
        self.watches.load(SeqCst) > 0
    }

    fn is(&self, start: usize, end: usize) -> bool {
        self.start.load(SeqCst) == start && self.end.load(SeqCst) == end
    }

    /// A watch has this region, the first; only with [`CHANGES`] locked.
    fn take(&self, start: usize, end: usize, page: usize) {
        self.set(start, end, page);
        self.watches.store(1, SeqCst);
    }

    /// One more watch has its region; only with [`CHANGES`] locked.
    fn share(&self) {
        self.watches.fetch_add(1, SeqCst);
    }

    /// One less; only with [`CHANGES`] locked.
    fn release(&self) {
        if self.watches.fetch_sub(1, SeqCst) == 1 {
            self.set(0, 0, 0);
        }
    }

    fn set(&self, start: usize, end: usize, page: usize) {
        self.version.fetch_add(1, SeqCst);
        self.start.store(start, SeqCst);
        self.end.store(end, SeqCst);
        self.page.store(page, SeqCst);
        self.version.fetch_add(1, SeqCst);
    }

    /// Start and size of the page of `address`.
    fn find(&self, address: usize) -> Option<(usize, usize)> {
        let version = self.version.load(SeqCst);
        let start = self.start.load(SeqCst);
        let end = self.end.load(SeqCst);
        let page = self.page.load(SeqCst);
        let stable = version.is_multiple_of(2) && self.version.load(SeqCst) == version;
        let at = address.checked_sub(address.checked_rem(page)?)?;
        (stable && start <= address && address < end).then_some((at, page))
    }
}

/// Watches over a VM's memory until it is dropped. It keeps the mappings: no
/// other memory can come to their addresses meanwhile.
#[derive(Debug)]
pub struct Watch {
    slots: Vec<&'static Slot>,
    memory: Arc<GuestMemoryMmap>,
}

impl Watch {
    /// From now on, an access to `memory` that meets a missing page marks
    /// `lost` instead of ending the process.
    ///
    /// # Errors
    /// When the handler cannot be installed, a region is longer than its file,
    /// or too many regions of the VM are watched.
    pub fn new(memory: Arc<GuestMemoryMmap>, lost: &Lost) -> io::Result<Self> {
        install()?;
        let mut watch = Self {
            slots: Vec::new(),
            memory,
        };
        // Dropped before an incomplete watch, which locks it.
        let _changes = changes();
        let vm = lost.vm();
        for region in watch.memory.iter() {
            let start = region
                .get_host_address(MemoryRegionAddress(0))
                .map_err(io::Error::other)?
                .expose_provenance();
            let end = usize::try_from(region.len())
                .ok()
                .and_then(|len| start.checked_add(len))
                .ok_or(io::ErrorKind::InvalidInput)?;
            let slot = match vm.watched(start, end) {
                // Mapped by an earlier table of regions, too.
                Some(slot) => {
                    slot.share();
                    slot
                }
                None => {
                    let page = page(region)?;
                    let slot = vm.free().ok_or_else(|| {
                        io::Error::other(format!("a VM has at most {MOST} regions of memory"))
                    })?;
                    slot.take(start, end, page);
                    slot
                }
            };
            watch.slots.push(slot);
        }
        Ok(watch)
    }
}

/// Bytes of a page of the region, which must not be longer than its file.
fn page(region: &GuestRegionMmap) -> io::Result<usize> {
    let Some(file) = region.file_offset() else {
        return Ok(4096);
    };
    let end = file.start().checked_add(region.len());
    if end.is_none_or(|end| file.file().metadata().is_ok_and(|m| m.len() < end)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a region of guest memory is longer than its file",
        ));
    }
    let system = FileSystem::of(file.file())?;
    usize::try_from(system.page).map_err(io::Error::other)
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _changes = changes();
        for slot in &self.slots {
            slot.release();
        }
    }
}

/// Installs the handler, once for the process.
fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: all-zero bytes are a valid `sigaction`.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        action.sa_sigaction = on_bus_error as *const () as usize;
        // SAFETY: `action` is initialised and lives during the call; the handler
        // has the signature that SA_SIGINFO wants and calls only what is
        // allowed in a signal handler.
        match unsafe { libc::sigaction(libc::SIGBUS, &raw const action, null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        }
    });
    installed.map_err(io::Error::from_raw_os_error)
}

extern "C" fn on_bus_error(signal: i32, info: *const libc::siginfo_t, _context: *const c_void) {
    // SAFETY: the kernel hands a valid `siginfo_t` to a handler with SA_SIGINFO.
    let info = unsafe { &*info };
    if matches!(info.si_code, libc::BUS_ADRERR | libc::BUS_MCEERR_AR) {
        // SAFETY: with these codes the kernel has filled in the address.
        let address = unsafe { info.si_addr() };
        if replace(address.addr()) {
            return;
        }
    }
    // Not guest memory: as if there were no handler.
    // SAFETY: SIG_DFL is a valid disposition; `signal` is allowed in a handler.
    let _ = unsafe { libc::signal(signal, libc::SIG_DFL) };
    if info.si_code <= 0 {
        // Nothing repeats a signal that somebody sent.
        // SAFETY: `raise` is allowed in a handler.
        let _ = unsafe { libc::raise(signal) };
    }
}

/// Puts fresh memory where `address` is, if that is watched.
fn replace(address: usize) -> bool {
    let mut found = None;
    for vm in vms() {
        if let Some(page) = vm.slots().find_map(|slot| slot.find(address)) {
            // Before the page is replaced; of every VM that maps it here.
            vm.is_lost.store(true, SeqCst);
            found = Some(page);
        }
    }
    let Some((at, page)) = found else {
        return false;
    };
    // SAFETY: the page lies in a mapping of guest memory, which its watches keep
    // and this thread is accessing. Guest memory is reached by volatile copies
    // only, which may meet any bytes. It stays mapped, so no pointer dangles.
    let mapped = unsafe {
        libc::mmap(
            with_exposed_provenance_mut(at),
            page,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    // Like the page that was there, it stays out of core dumps.
    // SAFETY: the advice does not change what the page holds; it is a system call,
    // as a signal handler may make.
    let _ = unsafe { libc::madvise(mapped, page, libc::MADV_DONTDUMP) };
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, FileOffset, GuestAddress};

    fn memory(pages: u64) -> (std::fs::File, GuestMemoryMmap) {
        let fd = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = std::fs::File::from(fd);
        file.set_len(pages * 4096).unwrap();
        let range = (
            GuestAddress(0),
            usize::try_from(pages * 4096).unwrap(),
            Some(FileOffset::new(file.try_clone().unwrap(), 0)),
        );
        let memory = GuestMemoryMmap::from_ranges_with_files([range]).unwrap();
        (file, memory)
    }

    #[test]
    fn memory_that_is_truncated_is_lost_and_other_memory_is_not() {
        let (file, truncated) = memory(4);
        let (_kept, whole) = memory(4);
        let (lost, other) = (Lost::default(), Lost::default());
        let truncated = Arc::new(truncated);
        let whole = Arc::new(whole);
        let _watch = Watch::new(truncated.clone(), &lost).unwrap();
        let _other = Watch::new(whole.clone(), &other).unwrap();
        file.set_len(4096).unwrap();

        truncated.write_slice(&[1; 100], GuestAddress(0)).unwrap();
        assert!(!lost.is_lost());
        truncated
            .write_slice(&[1; 8192], GuestAddress(4096))
            .unwrap();
        whole.write_slice(&[1; 8192], GuestAddress(4096)).unwrap();

        assert!(lost.is_lost());
        assert!(!other.is_lost());
    }

    #[test]
    fn devices_that_are_gone_leave_their_place_to_others() {
        // One whose watch outlives it keeps its place until that has gone.
        let (file, truncated) = memory(1);
        let truncated = Arc::new(truncated);
        let gone = Lost::default();
        let watch = Watch::new(truncated.clone(), &gone).unwrap();
        drop(gone);
        for _ in 0..1000 {
            let lost = Lost::default();
            let _watch = Watch::new(regions(1), &lost).unwrap();
            assert!(!lost.is_lost());
        }
        // Other tests have some, too.
        let count = {
            let _changes = changes();
            vms().count()
        };
        assert!(count < 100, "{count}");
        file.set_len(0).unwrap();
        let lost = Lost::default();
        let _other = Watch::new(regions(1), &lost).unwrap();
        truncated.write_slice(&[1], GuestAddress(0)).unwrap();
        assert!(!lost.is_lost());
        drop(watch);
    }

    /// Memory of so many regions.
    fn regions(count: u64) -> Arc<GuestMemoryMmap> {
        let ranges: Vec<_> = (0..count)
            .map(|nth| (GuestAddress(nth * 8192), 4096))
            .collect();
        Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap())
    }

    #[test]
    fn a_vm_has_its_own_share_of_regions() {
        let (greedy, other) = (Lost::default(), Lost::default());
        let most = MOST as u64;
        let full = Watch::new(regions(most), &greedy).unwrap();
        assert!(Watch::new(regions(1), &greedy).is_err());
        Watch::new(regions(most), &other).unwrap();
        drop(full);
        // What is refused takes nothing.
        assert!(Watch::new(regions(most + 1), &greedy).is_err());
        Watch::new(regions(most), &greedy).unwrap();
    }

    #[test]
    fn a_region_of_two_watches_is_watched_until_both_are_gone() {
        let (file, memory) = memory(2);
        let lost = Lost::default();
        let memory = Arc::new(memory);
        let first = Watch::new(memory.clone(), &lost).unwrap();
        let second = Watch::new(memory.clone(), &lost).unwrap();
        assert_eq!(lost.vm().slots().filter(|slot| slot.is_used()).count(), 1);
        drop(first);
        file.set_len(4096).unwrap();
        memory.write_slice(&[1], GuestAddress(4096)).unwrap();
        assert!(lost.is_lost());
        drop(second);
        assert_eq!(lost.vm().slots().filter(|slot| slot.is_used()).count(), 0);
    }

    #[test]
    fn a_region_longer_than_its_file_is_refused() {
        let (file, memory) = memory(4);
        file.set_len(3 * 4096).unwrap();
        let error = Watch::new(Arc::new(memory), &Lost::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
