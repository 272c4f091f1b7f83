// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Linux's asynchronous I/O: several requests under way at once, from one thread, with one
//! system call for many.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// A page, where direct I/O wants it.
#[derive(Clone)]
#[repr(align(4096))]
pub struct Page(pub [u8; Page::SIZE]);

impl Page {
    /// Its size.
    pub const SIZE: usize = 4096;
}

impl Default for Page {
    fn default() -> Self {
        Self([0; Self::SIZE])
    }
}

/// In which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the disk.
    Read,
    /// To the disk.
    Write,
}

/// `struct iocb` of linux/aio_abi.h, little endian.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Request {
    data: u64,
    key: u32,
    flags: u32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    more_flags: u32,
    event_file: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    more: i64,
}

/// Requests of a disk that are under way, each with a page of its own.
pub struct Queue<'a> {
    context: libc::c_ulong,
    disk: &'a File,
    /// Not touched while requests are under way but through their slots, and in place until the
    /// context is gone.
    pages: Box<[Page]>,
    requests: Vec<Request>,
    events: Vec<Event>,
    under_way: usize,
}

impl<'a> Queue<'a> {
    /// For up to `depth` requests to `disk`, which is open for direct I/O.
    ///
    /// # Errors
    /// When the kernel has no room for it.
    pub fn new(disk: &'a File, depth: usize) -> Result<Self> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes `context`, and nothing else.
        let done = unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut context) };
        check(done).context("io_setup")?;
        Ok(Self {
            context,
            disk,
            pages: vec![Page::default(); depth].into(),
            requests: vec![Request::default(); depth],
            events: vec![Event::default(); depth],
            under_way: 0,
        })
    }

    /// The page of a slot that has no request under way.
    pub fn page(&mut self, slot: usize) -> Option<&mut [u8; Page::SIZE]> {
        self.pages.get_mut(slot).map(|page| &mut page.0)
    }

    /// Sends requests: for each the slot, the direction, and the page of the disk. None of these
    /// slots has one under way.
    ///
    /// # Errors
    /// When the kernel takes less than all.
    pub fn send(&mut self, wanted: &[(usize, Direction, u64)]) -> Result<()> {
        let mut pointers = Vec::with_capacity(wanted.len());
        for (slot, direction, number) in wanted {
            let (Some(request), Some(page)) =
                (self.requests.get_mut(*slot), self.pages.get_mut(*slot))
            else {
                bail!("there is no slot {slot}");
            };
            *request = Request {
                data: *slot as u64,
                opcode: u16::from(*direction == Direction::Write),
                file: u32::try_from(self.disk.as_raw_fd())?,
                buffer: (&raw mut page.0) as u64,
                bytes: Page::SIZE as u64,
                offset: i64::try_from(number * Page::SIZE as u64)?,
                ..Request::default()
            };
            pointers.push(&raw mut *request);
        }
        // SAFETY: the kernel reads as many requests as there are pointers, all of which live. The
        // pages that they name live until the context is gone, which waits for the requests.
        let taken = unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                self.context,
                pointers.len(),
                pointers.as_mut_ptr(),
            )
        };
        let taken = check(taken).context("io_submit")?;
        self.under_way += taken;
        if taken != wanted.len() {
            bail!("{taken} of {} requests were taken", wanted.len());
        }
        Ok(())
    }

    /// Waits for one request at least, and gives back the slots of those that are done.
    ///
    /// # Errors
    /// When one has failed.
    pub fn wait(&mut self, done: &mut Vec<usize>) -> Result<()> {
        done.clear();
        if self.under_way == 0 {
            return Ok(());
        }
        // SAFETY: the kernel writes at most as many events as there is room for.
        let count = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                1,
                self.events.len(),
                self.events.as_mut_ptr(),
                std::ptr::null_mut::<libc::timespec>(),
            )
        };
        let count = check(count).context("io_getevents")?;
        for event in self.events.iter().take(count) {
            self.under_way -= 1;
            if event.result != Page::SIZE as i64 {
                bail!("a request of a page came to {}", event.result);
            }
            done.push(usize::try_from(event.data)?);
        }
        Ok(())
    }

    /// How many are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        // SAFETY: it waits for what is under way; the context is not used afterwards.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

fn check(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_as_they_were_written() {
        let file = tempfile::tempfile().unwrap();
        let mut queue = Queue::new(&file, 4).unwrap();
        let mut done = Vec::new();
        for slot in 0..4 {
            queue
                .page(slot)
                .unwrap()
                .fill(u8::try_from(slot).unwrap() + 1);
        }
        let writes: Vec<_> = (0..4).map(|n| (n, Direction::Write, n as u64)).collect();
        queue.send(&writes).unwrap();
        while queue.under_way() > 0 {
            queue.wait(&mut done).unwrap();
        }
        queue.send(&[(0, Direction::Read, 3)]).unwrap();
        queue.wait(&mut done).unwrap();
        assert_eq!(done, [0]);
        assert_eq!(queue.page(0).unwrap(), &[4; Page::SIZE]);
        queue.wait(&mut done).unwrap();
        assert!(done.is_empty());
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        let mut queue = Queue::new(&file, 1).unwrap();
        assert!(queue.send(&[(1, Direction::Read, 0)]).is_err());
        queue.send(&[(0, Direction::Read, 0)]).unwrap();
        assert!(queue.wait(&mut Vec::new()).is_err());
    }
}
