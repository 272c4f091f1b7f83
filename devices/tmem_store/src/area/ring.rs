// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reads of a file that are under way together: an io_uring that can do nothing but read this file.
//!
//! What a ring does is seen by no seccomp filter. So what it may do is fixed before it is enabled
//! (`IORING_REGISTER_RESTRICTIONS`): `IORING_OP_READ` of the file that it was made for, and nothing is
//! registered with it any more.
//!
//! Threads share it. One of those that wait, the *driver*, waits in the kernel and takes what was read,
//! also for the others, who wait for it; when its own read is done, one of them drives. Nobody waits with
//! the lock held.
//!
//! Beside the mapping of page memory this is the crate's only module with `unsafe`. What it relies on:
//!
//! 1. *The ring's queues are accessed by `Slots` alone*, in methods that take it by `&mut`. There is one
//!    for each ring, and both are private.
//! 2. *The kernel writes to a buffer only while its slot is `UnderWay` or `Abandoned`*: a slot becomes
//!    that when its buffer's address is put into the queue, and something else once the completion was
//!    taken, of which there is one for each entry of the queue. Meanwhile nobody refers to the buffer, and
//!    it is not freed: if the ring goes, it is leaked.

#![expect(unsafe_code, reason = "lends buffers to the kernel")]

use super::{Aligned, WINDOW};
use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use rustix::io::Errno;
use std::fmt::{Debug, Formatter};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Reads that can be under way: those of two runs that are asked for together.
const SLOTS: u32 = 128;

/// How often who waits looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

/// The file's place among those that are registered.
const FILE: Fixed = Fixed(0);

/// How far a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    UnderWay,
    /// Nobody waits for it any more.
    Abandoned,
    /// Bytes, or a negative error number.
    Done(i32),
}

type Buffer = Aligned<WINDOW>;

struct Slot {
    state: State,
    /// From `Box`, once it was used.
    buffer: Option<NonNull<Buffer>>,
}

/// Reads that are under way.
struct Slots {
    slots: Vec<Slot>,
    /// Some are in the queue that the kernel was not told of.
    has_new: bool,
    has_driver: bool,
}

// SAFETY: the buffers are owned, as boxes would own them.
unsafe impl Send for Slots {}

impl Slots {
    /// Puts a read into the queue of the ring. `None`: too many are under way.
    fn begin(&mut self, ring: &IoUring, offset: u64, len: u32) -> Option<u32> {
        if len as usize > size_of::<Buffer>() {
            return None;
        }
        let is_free = |slot: &Slot| slot.state == State::Free;
        // Who drives would wait for what is gone.
        if !self.has_driver && !self.slots.iter().any(is_free) {
            self.take_completions(ring);
        }
        let nth = self.slots.iter().position(is_free)?;
        let number = u32::try_from(nth).ok()?;
        let slot = self.slots.get_mut(nth)?;
        let buffer = *slot.buffer.get_or_insert_with(new_buffer);
        let read = opcode::Read::new(FILE, buffer.as_ptr().cast(), len)
            .offset(offset)
            .build()
            .user_data(number.into());
        // SAFETY: by 1, there is no other.
        let mut queue = unsafe { ring.submission_shared() };
        // SAFETY: the buffer has so many bytes, and by 2 is there, and nobody else's, until the read has
        // ended: the slot is marked as under way before the kernel can see the entry, which the drop of
        // `queue` shows to it.
        unsafe { queue.push(&read) }.ok()?;
        slot.state = State::UnderWay;
        self.has_new = true;
        Some(number)
    }

    /// Takes what was read; whether there was any.
    fn take_completions(&mut self, ring: &IoUring) -> bool {
        // SAFETY: by 1, there is no other.
        let queue = unsafe { ring.completion_shared() };
        let mut any = false;
        for completion in queue {
            let nth = usize::try_from(completion.user_data()).ok();
            if let Some(slot) = nth.and_then(|nth| self.slots.get_mut(nth)) {
                slot.state = match slot.state {
                    State::Abandoned => State::Free,
                    _ => State::Done(completion.result()),
                };
            }
            any = true;
        }
        any
    }

    fn done(&self, slot: u32) -> Option<i32> {
        match self.slots.get(slot as usize)?.state {
            State::Done(result) => Some(result),
            _ => None,
        }
    }

    /// What was read into a slot: no more than was asked for.
    fn bytes(&self, slot: u32) -> Option<&[u8]> {
        let read = usize::try_from(self.done(slot)?).ok()?;
        let buffer = self.slots.get(slot as usize)?.buffer?;
        // SAFETY: by 2, the kernel writes to it no more, and others do not before this borrow ends, since
        // that takes `&mut self`.
        let buffer: &Buffer = unsafe { buffer.as_ref() };
        buffer.get(..read)
    }

    /// Nobody waits for a slot any more.
    fn leave(&mut self, slot: u32) {
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.state = match slot.state {
                State::UnderWay | State::Abandoned => State::Abandoned,
                State::Done(_) | State::Free => State::Free,
            };
        }
    }
}

fn new_buffer() -> NonNull<Buffer> {
    NonNull::from(Box::leak(Box::new(Buffer::new())))
}

impl Drop for Slots {
    fn drop(&mut self) {
        for slot in &self.slots {
            match (slot.state, slot.buffer) {
                (State::Free | State::Done(_), Some(buffer)) => {
                    // SAFETY: it is from `Box`, and by 2 nobody else refers to it.
                    drop(unsafe { Box::from_raw(buffer.as_ptr()) });
                }
                // The kernel may write to it.
                (State::UnderWay | State::Abandoned, _) | (_, None) => {}
            }
        }
    }
}

/// A ring for reads of one file.
pub(super) struct Ring {
    ring: IoUring,
    slots: Mutex<Slots>,
    /// Some reads are done, or nobody drives.
    changed: Condvar,
}

impl Debug for Ring {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring that reads `file`, which it keeps open for some time longer than the process runs.
    ///
    /// # Errors
    /// The kernel has none (before 5.11), or refuses: by `kernel.io_uring_disabled`, or a seccomp filter of
    /// somebody's.
    pub(super) fn new(file: &File) -> io::Result<Arc<Self>> {
        let ring: IoUring = IoUring::builder().setup_r_disabled().build(SLOTS)?;
        // To wait for no longer than a while.
        if !ring.params().is_feature_ext_arg() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let submitter = ring.submitter();
        submitter.register_files(&[file.as_raw_fd()])?;
        submitter.register_restrictions(&mut [
            Restriction::sqe_op(opcode::Read::CODE),
            Restriction::sqe_flags_required(Flags::FIXED_FILE.bits()),
        ])?;
        submitter.register_enable_rings()?;
        let free = || Slot {
            state: State::Free,
            buffer: None,
        };
        let slots = Slots {
            slots: (0..SLOTS).map(|_| free()).collect(),
            has_new: false,
            has_driver: false,
        };
        Ok(Arc::new(Self {
            ring,
            slots: Mutex::new(slots),
            changed: Condvar::new(),
        }))
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to read `len` bytes from `offset` on, which the kernel hears of when somebody waits.
    /// `None`: too many reads are under way, or it is more than a buffer holds.
    pub(super) fn begin(self: &Arc<Self>, offset: u64, len: usize) -> Option<RingRead> {
        let len = u32::try_from(len).ok()?;
        let slot = self.slots().begin(&self.ring, offset, len)?;
        let ring = self.clone();
        Some(RingRead { ring, slot })
    }

    /// Tells the kernel of reads that it has not heard of. What it does not take now, the next driver tells it
    /// of.
    fn submit<'a>(&'a self, mut slots: MutexGuard<'a, Slots>) -> MutexGuard<'a, Slots> {
        if std::mem::take(&mut slots.has_new) {
            drop(slots);
            let _ = self.ring.submit();
            slots = self.slots();
        }
        slots
    }

    /// Waits for the kernel to have read something, for a while. To be called without the lock.
    ///
    /// # Errors
    /// What the kernel says, if waiting again is of no use.
    fn drive(&self) -> io::Result<()> {
        let while_ = Timespec::from(LOOK);
        let args = SubmitArgs::new().timespec(&while_);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => Ok(()),
            Err(error) => match Errno::from_io_error(&error) {
                // Nothing yet, a signal, or the kernel has no memory for more of them right now.
                Some(Errno::TIME | Errno::INTR | Errno::AGAIN | Errno::BUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Waits until a slot is done, for as long as `go_on` says so.
    fn wait(
        &self,
        slot: u32,
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<MutexGuard<'_, Slots>> {
        let mut slots = self.slots();
        if slots.has_driver {
            slots = self.submit(slots);
        }
        let mut asked = Instant::now();
        loop {
            // What others took, a driver on its way into the kernel would wait for.
            if !slots.has_driver && slots.take_completions(&self.ring) {
                self.changed.notify_all();
            }
            if slots.done(slot).is_some() {
                return Ok(slots);
            }
            if slots.has_driver {
                let waited = self.changed.wait_timeout(slots, LOOK);
                slots = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else {
                slots.has_driver = true;
                // It tells the kernel of all.
                slots.has_new = false;
                drop(slots);
                let driven = self.drive();
                slots = self.slots();
                slots.has_driver = false;
                self.changed.notify_all();
                driven?;
            }
            // By the clock: others' reads may end all the time.
            if asked.elapsed() >= LOOK && slots.done(slot).is_none() {
                drop(slots);
                if !go_on() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                asked = Instant::now();
                slots = self.slots();
            }
        }
    }
}

/// A read that was begun.
#[derive(Debug)]
pub(super) struct RingRead {
    ring: Arc<Ring>,
    slot: u32,
}

impl RingRead {
    /// Waits for it, for as long as `go_on` says so, and copies all bytes from `skipped` on that `bytes` has
    /// room for.
    ///
    /// # Errors
    /// [`io::ErrorKind::Interrupted`] if `go_on` stopped it; what the kernel says; there are not so many bytes.
    pub(super) fn finish(
        self,
        skipped: usize,
        bytes: &mut [u8],
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let slots = self.ring.wait(self.slot, go_on)?;
        let read = slots.bytes(self.slot).and_then(|read| read.get(skipped..));
        let wanted = read.and_then(|read| read.get(..bytes.len()));
        match (wanted, slots.done(self.slot)) {
            (Some(wanted), _) => bytes.copy_from_slice(wanted),
            // Not as what it is: EINTR would say that `go_on` stopped it.
            (None, Some(error)) if error < 0 => {
                return Err(io::Error::other(Errno::from_raw_os_error(-error)));
            }
            (None, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }
}

impl Drop for RingRead {
    fn drop(&mut self) {
        let mut slots = self.ring.slots();
        slots.leave(self.slot);
        // So that its slot becomes free.
        drop(self.ring.submit(slots));
    }
}

#[cfg(test)]
mod tests;
