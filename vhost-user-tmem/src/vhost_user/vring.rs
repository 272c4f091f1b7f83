// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A vring whose thread holds its lock while it works, and lets go when the
//! front end wants to change something.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vhost_user_backend::{VringMutex, VringState, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::{Error, QueueT};
use vm_memory::GuestAddressSpace;

use crate::attendant::Kick;
use crate::vm::Memory;

/// How often the log tells of files that are dropped.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The file if it is an eventfd or a socket, which User-Mode Linux has in its place, made not to
/// block: a full socket holds nobody up then. Anything else, a file of a slow disk for example,
/// could hold a queue's thread up.
pub(super) fn event(file: File) -> Option<File> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let is_event = std::fs::read_link(link).is_ok_and(|to| {
        let to = to.as_os_str().as_encoded_bytes();
        to == b"anon_inode:[eventfd]" || to.starts_with(b"socket:[")
    });
    let nonblocking =
        fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags | OFlags::NONBLOCK));
    let usable = is_event && nonblocking.is_ok();
    if !usable {
        say();
    }
    usable.then_some(file)
}

/// Has the log tell of a file that is dropped, but not for each.
fn say() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_none_or(|last| last.elapsed() >= SAY_EVERY) {
        *last = Some(Instant::now());
        log::warn!("a front end sent a file that is no eventfd for a queue: it is not used");
    }
}

/// [`VringMutex`], with six differences: a queue's thread that works through
/// many requests hears of a front end that waits for the lock (mutexes are not
/// fair), a kick that was taken away in the meantime is no error (one would end
/// the queue's thread for good), any other error of a kick is kept for who ends the
/// connection, a size that no queue can have is one: the next SET_VRING_ADDR fails, and who
/// attends to the queue hears when it starts, stops or has another kick, and one that starts goes
/// on at its used index, wherever the front end says: requests are answered in order, so all from
/// there on are to be done. Cloud Hypervisor says what is available when it connects anew.
#[derive(Clone)]
pub(super) struct Vring<M: GuestAddressSpace> {
    inner: VringMutex<M>,
    /// Threads of the front end that want to change the vring.
    waiting: Arc<AtomicU32>,
    /// The front end has asked for a size that no queue can have.
    is_odd: Arc<AtomicBool>,
    /// Why kicks cannot be read.
    trouble: Arc<OnceLock<io::Error>>,
    /// What is to be waited for while the queue runs.
    kick: Arc<Mutex<Option<Arc<Kick>>>>,
    /// Called when that may have changed.
    changed: Arc<OnceLock<Changed>>,
}

type Changed = Box<dyn Fn() + Send + Sync>;

impl<M: GuestAddressSpace + 'static> Vring<M> {
    /// Calls `changed` whenever the queue starts, stops or has another kick.
    pub(super) fn on_change(&self, changed: impl Fn() + Send + Sync + 'static) {
        // A vring has one attendant.
        let _ = self.changed.set(Box::new(changed));
    }

    fn has_changed(&self) {
        if let Some(changed) = self.changed.get() {
            changed();
        }
    }

    /// The kick, also while the queue does not run.
    pub(super) fn event(&self) -> Option<Arc<Kick>> {
        let kick = self.kick.lock();
        kick.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is to be waited for; `None` while the queue does not run.
    pub(super) fn kick(&self) -> Option<Arc<Kick>> {
        let runs = self.change(|vring| {
            let state = vring.get_ref();
            state.is_enabled() && state.get_queue().ready()
        });
        self.event().filter(|_| runs)
    }

    /// Keeps a duplicate of a kick, which the crate keeps as well.
    fn keep_kick(&self, file: Option<&File>) {
        let kick = file.map(|file| Kick::new(file.try_clone()?.into()));
        let kick = kick.transpose().unwrap_or_else(|error| {
            // The first is as good as any.
            let _ = self.trouble.set(error);
            None
        });
        let mut kept = self.kick.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = kick.map(Arc::new);
    }

    /// Whether the front end wants to change the vring.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Why the queue cannot be served any more.
    pub(super) fn trouble(&self) -> Option<&io::Error> {
        self.trouble.get()
    }

    fn change<T>(&self, change: impl FnOnce(&VringMutex<M>) -> T) -> T {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let outcome = change(&self.inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        outcome
    }
}

impl<'a, M: GuestAddressSpace + 'a> VringStateGuard<'a, M> for Vring<M> {
    type G = MutexGuard<'a, VringState<M>>;
}

impl<'a, M: GuestAddressSpace + 'a> VringStateMutGuard<'a, M> for Vring<M> {
    type G = MutexGuard<'a, VringState<M>>;
}

impl VringT<Memory> for Vring<Memory> {
    fn new(mem: Memory, max_queue_size: u16) -> Result<Self, Error> {
        Ok(Self {
            inner: VringMutex::new(mem, max_queue_size)?,
            waiting: Arc::default(),
            is_odd: Arc::default(),
            trouble: Arc::default(),
            kick: Arc::default(),
            changed: Arc::default(),
        })
    }

    fn get_ref(&self) -> MutexGuard<'_, VringState<Memory>> {
        self.inner.get_ref()
    }

    fn get_mut(&self) -> MutexGuard<'_, VringState<Memory>> {
        self.inner.get_mut()
    }

    fn add_used(&self, desc_index: u16, len: u32) -> Result<(), Error> {
        self.inner.add_used(desc_index, len)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.inner.signal_used_queue()
    }

    fn enable_notification(&self) -> Result<bool, Error> {
        self.inner.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), Error> {
        self.inner.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, Error> {
        self.inner.needs_notification()
    }

    fn set_enabled(&self, enabled: bool) {
        self.change(|vring| vring.set_enabled(enabled));
        self.has_changed();
    }

    fn set_queue_info(&self, desc: u64, avail: u64, used: u64) -> Result<(), Error> {
        if self.is_odd.load(Ordering::Relaxed) {
            return Err(Error::InvalidSize);
        }
        self.change(|vring| vring.set_queue_info(desc, avail, used))
    }

    fn queue_next_avail(&self) -> u16 {
        self.change(VringT::queue_next_avail)
    }

    fn set_queue_next_avail(&self, base: u16) {
        self.change(|vring| vring.set_queue_next_avail(base));
    }

    fn set_queue_next_used(&self, idx: u16) {
        self.change(|vring| vring.set_queue_next_used(idx));
    }

    fn queue_used_idx(&self) -> Result<u16, Error> {
        self.change(VringT::queue_used_idx)
    }

    fn set_queue_size(&self, num: u16) {
        // Virtio 1.2, section 2.7: a power of two.
        self.is_odd.store(!num.is_power_of_two(), Ordering::Relaxed);
        if num.is_power_of_two() {
            self.change(|vring| vring.set_queue_size(num));
        }
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.change(|vring| vring.set_queue_event_idx(enabled));
    }

    fn set_queue_ready(&self, ready: bool) {
        self.change(|vring| {
            let mut state = vring.get_mut();
            let queue = state.get_queue_mut();
            if ready && !queue.ready() {
                queue.set_next_avail(queue.next_used());
            }
            queue.set_ready(ready);
        });
        self.has_changed();
    }

    fn set_kick(&self, file: Option<File>) {
        let file = file.and_then(event);
        self.keep_kick(file.as_ref());
        self.change(|vring| vring.set_kick(file));
        self.has_changed();
    }

    fn read_kick(&self) -> io::Result<bool> {
        match self.inner.read_kick() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => {
                // The first is as good as any.
                let _ = self.trouble.set(error);
                Ok(true)
            }
            outcome => outcome,
        }
    }

    fn set_call(&self, file: Option<File>) {
        let file = file.and_then(event);
        self.change(|vring| vring.set_call(file));
    }

    fn set_err(&self, file: Option<File>) {
        let file = file.and_then(event);
        self.change(|vring| vring.set_err(file));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

    #[test]
    fn an_error_of_a_kick_is_kept() {
        let mem = GuestMemoryAtomic::new(GuestMemoryMmap::<()>::new());
        let vring = Vring::new(mem, 256).unwrap();
        assert!(vring.trouble().is_none());
        // Reads of a folder fail.
        vring.inner.set_kick(Some(File::open("/").unwrap()));
        assert!(vring.read_kick().unwrap());
        assert_eq!(vring.trouble().unwrap().kind(), ErrorKind::IsADirectory);
    }
}
