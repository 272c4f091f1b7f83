// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Data straight between a file and the guest's memory: the kernel copies, no
//! buffer lies between.
//!
//! Where a page of the guest's memory is missing, the kernel says EFAULT to a system
//! call, and raises SIGBUS only for an access of the program itself. That is made then:
//! the handler ends the program ([`gone`](crate::machine::memory::gone)).

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, iovec, off64_t};
use vm_memory::volatile_memory::PtrGuardMut;
use vm_memory::{Bytes, VolatileSlice};

/// Stretches that the kernel takes in one call.
const MAX_STRETCHES: usize = libc::UIO_MAXIOV as usize;

/// Bytes of a page.
const PAGE: usize = 4096;

/// Fills `slices` with what `file` has from `offset` on.
///
/// # Errors
/// What the system says; `UnexpectedEof` if the file ends before. The first
/// slices may have been filled by then.
pub(super) fn read_exact_at(
    file: BorrowedFd<'_>,
    slices: &[VolatileSlice<'_>],
    offset: u64,
) -> io::Result<()> {
    let fd = file.as_raw_fd();
    let call = |stretches: &[iovec], at| {
        // SAFETY: the stretches are memory that `transfer` keeps mapped during
        // the call, of the lengths that they say. It is the guest's, to which
        // no references exist, only volatile accesses: the kernel may write.
        unsafe { libc::preadv64(fd, stretches.as_ptr(), count(stretches), at) }
    };
    transfer(slices, offset, ErrorKind::UnexpectedEof, call)
}

/// Writes `slices` to `file` from `offset` on.
///
/// # Errors
/// What the system says. The first slices may have been written by then.
pub(super) fn write_all_at(
    file: BorrowedFd<'_>,
    slices: &[VolatileSlice<'_>],
    offset: u64,
) -> io::Result<()> {
    let fd = file.as_raw_fd();
    let call = |stretches: &[iovec], at| {
        // SAFETY: as in `read_exact_at`; the kernel only reads.
        unsafe { libc::pwritev64(fd, stretches.as_ptr(), count(stretches), at) }
    };
    transfer(slices, offset, ErrorKind::WriteZero, call)
}

/// Writes `head` and `slices` to `file` as one packet.
///
/// # Errors
/// What the system says; `InvalidInput` if there are more slices than one call
/// takes.
pub(super) fn write_packet(
    file: BorrowedFd<'_>,
    head: &[u8],
    slices: &[VolatileSlice<'_>],
) -> io::Result<()> {
    let mut stretches = Stretches::new(slices);
    stretches.all.insert(
        0,
        iovec {
            iov_base: head.as_ptr().cast_mut().cast(),
            iov_len: head.len(),
        },
    );
    if stretches.all.len() > MAX_STRETCHES {
        return Err(ErrorKind::InvalidInput.into());
    }
    let (fd, all) = (file.as_raw_fd(), &stretches.all);
    loop {
        // SAFETY: as in `read_exact_at`; the kernel only reads, also of `head`,
        // which is borrowed until this returns.
        let written = unsafe { libc::writev(fd, all.as_ptr(), count(all)) };
        if written >= 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == ErrorKind::Interrupted => {}
            error => {
                touch_if_missing(&error, slices);
                return Err(error);
            }
        }
    }
}

/// Touches each page of `slices` if `error` says that one is missing.
fn touch_if_missing(error: &io::Error, slices: &[VolatileSlice<'_>]) {
    if error.raw_os_error() != Some(libc::EFAULT) {
        return;
    }
    for slice in slices.iter().filter(|slice| !slice.is_empty()) {
        let pages = (0..slice.len()).step_by(PAGE);
        for at in pages.chain([slice.len() - 1]) {
            // What is there does not matter.
            let _ = slice.read_obj::<u8>(at);
        }
    }
}

/// Calls `call` with what remains of `slices`, and the place in the file, until
/// nothing remains. `ended` is the error if a call transfers nothing.
fn transfer(
    slices: &[VolatileSlice<'_>],
    offset: u64,
    ended: ErrorKind,
    mut call: impl FnMut(&[iovec], off64_t) -> isize,
) -> io::Result<()> {
    let mut stretches = Stretches::new(slices);
    let mut done = 0;
    while !stretches.rest().is_empty() {
        let at = offset
            .checked_add(done)
            .and_then(|at| off64_t::try_from(at).ok())
            .ok_or(ErrorKind::FileTooLarge)?;
        match usize::try_from(call(stretches.rest(), at)) {
            Ok(0) => return Err(ended.into()),
            Ok(count) => {
                stretches.advance(count);
                done += count as u64;
            }
            // Negative.
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => {}
                error => {
                    touch_if_missing(&error, slices);
                    return Err(error);
                }
            },
        }
    }
    Ok(())
}

/// Slices in the kernel's form.
struct Stretches<'a> {
    /// Those that are not empty.
    all: Vec<iovec>,
    /// The first that remains.
    next: usize,
    /// Keep the slices mapped.
    _guards: Vec<PtrGuardMut>,
    _slices: &'a [VolatileSlice<'a>],
}

impl<'a> Stretches<'a> {
    fn new(slices: &'a [VolatileSlice<'a>]) -> Self {
        let mut all = Vec::with_capacity(slices.len());
        let mut guards = Vec::with_capacity(slices.len());
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            let guard = slice.ptr_guard_mut();
            all.push(iovec {
                iov_base: guard.as_ptr().cast(),
                iov_len: slice.len(),
            });
            guards.push(guard);
        }
        Self {
            all,
            next: 0,
            _guards: guards,
            _slices: slices,
        }
    }

    /// What remains, as much as one call takes.
    fn rest(&self) -> &[iovec] {
        let rest = self.all.get(self.next..).unwrap_or_default();
        rest.get(..MAX_STRETCHES).unwrap_or(rest)
    }

    /// Takes `count` bytes, which remained, off the front.
    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.all.get_mut(self.next) {
            if count < first.iov_len {
                first.iov_base = first.iov_base.wrapping_byte_add(count);
                first.iov_len -= count;
                return;
            }
            count -= first.iov_len;
            self.next += 1;
        }
    }
}

fn count(stretches: &[iovec]) -> c_int {
    // At most MAX_STRETCHES.
    c_int::try_from(stretches.len()).unwrap_or(c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
    }

    /// `count` slices of 3 bytes, 5 apart, from the end to the beginning, and
    /// empty ones between them.
    fn scattered(memory: &GuestMemoryMmap, count: u64) -> Vec<VolatileSlice<'_>> {
        let slice = |nth, len| memory.get_slice(GuestAddress(5 * nth), len).unwrap();
        (0..count)
            .rev()
            .flat_map(|nth| [slice(nth, 3), slice(nth, 0)])
            .collect()
    }

    fn numbers(count: usize) -> Vec<u8> {
        (0..=250).cycle().take(count).collect()
    }

    #[test]
    fn more_slices_than_one_call_takes_arrive_in_order() {
        let (memory, count) = (memory(), 5000);
        let mut file = tempfile::tempfile().unwrap();
        let content = numbers(3 * count + 7);
        file.write_all(&content).unwrap();
        let slices = scattered(&memory, count as u64);
        read_exact_at(file.as_fd(), &slices, 7).unwrap();
        let copy = tempfile::tempfile().unwrap();
        write_all_at(copy.as_fd(), &slices, 3).unwrap();
        let mut back = vec![0; 3 * count];
        copy.read_exact_at(&mut back, 3).unwrap();
        assert_eq!(back, content[7..]);
        assert_eq!(copy.metadata().unwrap().len(), 3 + 3 * count as u64);
    }

    #[test]
    fn calls_that_transfer_little_are_repeated_from_where_they_ended() {
        let memory = memory();
        let slices = scattered(&memory, 4);
        let mut sizes = [1, 1, 3, 2, -1, 5].into_iter();
        let mut seen = Vec::new();
        let call = |rest: &[iovec], at| {
            let size = sizes.next().unwrap();
            if size < 0 {
                be_interrupted();
                return -1;
            }
            seen.push((at, rest.iter().map(|one| one.iov_len).sum::<usize>()));
            size
        };
        transfer(&slices, 100, ErrorKind::UnexpectedEof, call).unwrap();
        assert_eq!(seen, [(100, 12), (101, 11), (102, 10), (105, 7), (107, 5)]);
    }

    /// As a system call that a signal interrupts.
    fn be_interrupted() {
        // SAFETY: it has no conditions.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: the location is this thread's own, and always there.
        unsafe { errno.write(libc::EINTR) };
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let memory = memory();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 10]).unwrap();
        let error = read_exact_at(file.as_fd(), &scattered(&memory, 4), 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn errors_of_the_system_are_told() {
        let memory = memory();
        let file = File::open("/proc/self/exe").unwrap();
        let error = write_all_at(file.as_fd(), &scattered(&memory, 1), 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        let error = read_exact_at(file.as_fd(), &scattered(&memory, 1), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn nothing_to_transfer_is_no_error() {
        let memory = memory();
        let file = tempfile::tempfile().unwrap();
        let empty = memory.get_slice(GuestAddress(0), 0).unwrap();
        read_exact_at(file.as_fd(), &[empty], 0).unwrap();
        write_all_at(file.as_fd(), &[], 0).unwrap();
    }
}
