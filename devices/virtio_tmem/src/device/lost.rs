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
use std::ptr::{null_mut, with_exposed_provenance, with_exposed_provenance_mut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress};

use super::backing_file::FileSystem;

/// Whether a VM's memory was lost. The mark is never freed: the signal handler
/// may look at it at any time. There is one for each device.
#[derive(Clone, Copy, Debug)]
pub struct Lost(&'static AtomicBool);

impl Default for Lost {
    fn default() -> Self {
        Self(Box::leak(Box::new(AtomicBool::new(false))))
    }
}

impl Lost {
    /// Whether an access met memory that is gone.
    pub fn is_lost(self) -> bool {
        self.0.load(SeqCst)
    }

    /// Forgets it: the VM's memory was mapped anew.
    pub fn reset(self) {
        self.0.store(false, SeqCst);
    }
}

/// Regions of all VMs that are watched at once, at most.
const SLOTS: usize = 16384;

/// A watched region. `version` is odd while the others change.
struct Slot {
    version: AtomicUsize,
    start: AtomicUsize,
    /// 0: the slot is free.
    end: AtomicUsize,
    page: AtomicUsize,
    /// Address of an `AtomicBool` that is never freed.
    mark: AtomicUsize,
}

impl Slot {
    const fn free() -> Self {
        Self {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            page: AtomicUsize::new(0),
            mark: AtomicUsize::new(0),
        }
    }

    /// Only with [`CHANGES`] locked.
    fn set(&self, start: usize, end: usize, page: usize, mark: usize) {
        self.version.fetch_add(1, SeqCst);
        self.start.store(start, SeqCst);
        self.end.store(end, SeqCst);
        self.page.store(page, SeqCst);
        self.mark.store(mark, SeqCst);
        self.version.fetch_add(1, SeqCst);
    }

    /// Start and size of the page of `address`, and the mark.
    fn find(&self, address: usize) -> Option<(usize, usize, usize)> {
        let version = self.version.load(SeqCst);
        let start = self.start.load(SeqCst);
        let end = self.end.load(SeqCst);
        let page = self.page.load(SeqCst);
        let mark = self.mark.load(SeqCst);
        let stable = version.is_multiple_of(2) && self.version.load(SeqCst) == version;
        let at = address.checked_sub(address.checked_rem(page)?)?;
        (stable && start <= address && address < end).then_some((at, page, mark))
    }
}

static TABLE: [Slot; SLOTS] = [const { Slot::free() }; SLOTS];
static CHANGES: Mutex<()> = Mutex::new(());

/// Watches over a VM's memory until it is dropped. It keeps the mappings: no
/// other memory can come to their addresses meanwhile.
#[derive(Debug)]
pub struct Watch {
    slots: Vec<&'static Slot>,
    memory: Arc<GuestMemoryMmap>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

impl Watch {
    /// From now on, an access to `memory` that meets a missing page marks
    /// `lost` instead of ending the process.
    ///
    /// # Errors
    /// When the handler cannot be installed, a region is longer than its file,
    /// or too many regions are watched.
    pub fn new(memory: Arc<GuestMemoryMmap>, lost: Lost) -> io::Result<Self> {
        install()?;
        let mut watch = Self {
            slots: Vec::new(),
            memory,
        };
        let _changes = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
        for region in watch.memory.iter() {
            let mut page = 4096;
            if let Some(file) = region.file_offset() {
                let end = file.start().checked_add(region.len());
                if end.is_none_or(|end| file.file().metadata().is_ok_and(|m| m.len() < end)) {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "a region of guest memory is longer than its file",
                    ));
                }
                let system = FileSystem::of(file.file())?;
                page = usize::try_from(system.page).map_err(io::Error::other)?;
            }
            let start = region
                .get_host_address(MemoryRegionAddress(0))
                .map_err(io::Error::other)?
                .expose_provenance();
            let end = usize::try_from(region.len())
                .ok()
                .and_then(|len| start.checked_add(len))
                .ok_or(io::ErrorKind::InvalidInput)?;
            let mark = std::ptr::from_ref(lost.0).expose_provenance();
            let free = TABLE
                .iter()
                .find(|slot| slot.end.load(SeqCst) == 0)
                .ok_or_else(|| io::Error::other("too many regions of guest memory"))?;
            free.set(start, end, page, mark);
            watch.slots.push(free);
        }
        Ok(watch)
    }

    /// Whether nobody else has the memory any more.
    pub fn is_sole_owner(&self) -> bool {
        Arc::strong_count(&self.memory) == 1
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _changes = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in &self.slots {
            slot.set(0, 0, 0, 0);
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
    for slot in &TABLE {
        if let Some((at, page, mark)) = slot.find(address) {
            // SAFETY: a stable slot holds the address of a mark, and marks are
            // never freed.
            let mark = unsafe { &*with_exposed_provenance::<AtomicBool>(mark) };
            // Before the page is replaced; of every VM that maps it here.
            mark.store(true, SeqCst);
            found = Some((at, page));
        }
    }
    let Some((at, page)) = found else {
        return false;
    };
    // SAFETY: the page lies in a mapping of guest memory, which its watch keeps
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
        let _watch = Watch::new(truncated.clone(), lost).unwrap();
        let _other = Watch::new(whole.clone(), other).unwrap();
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
    fn a_region_longer_than_its_file_is_refused() {
        let (file, memory) = memory(4);
        file.set_len(3 * 4096).unwrap();
        let error = Watch::new(Arc::new(memory), Lost::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
