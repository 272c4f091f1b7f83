// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a front end hands over to have an image go through: a pipe, a socket or a file in memory.
//!
//! The other end is somebody else's, and so is perhaps another descriptor of this end: whether it blocks is
//! not for this program to say. So each call asks not to.

use std::fmt::{self, Debug, Formatter};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::{FileType, fstat};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use crate::steady::when;
use crate::tmpfs;

/// Most bytes at a time through a pipe: what one holds, as a rule (pipe(7)).
const PIPE: usize = 64 << 10;

/// One end of something that an image goes through.
pub struct Channel<F> {
    end: End,
    goes_on: F,
}

#[derive(Debug)]
enum End {
    /// splice(2) may be told not to block for a pipe, so that there is another one between.
    Pipe {
        end: OwnedFd,
        between: (OwnedFd, OwnedFd),
        /// Bytes that are in it.
        held: usize,
    },
    Socket(OwnedFd),
    /// In memory: nobody else has to do anything for it. A file of FUSE may never answer.
    File(File),
}

impl<F> Debug for Channel<F> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.end).finish()
    }
}

impl<F: Fn() -> bool> Channel<F> {
    /// Uses `end` while `goes_on` says so, which is asked whenever it would block.
    ///
    /// # Errors
    /// It is something else, or the system has no pipe.
    pub fn new(end: OwnedFd, goes_on: F) -> io::Result<Self> {
        let end = match FileType::from_raw_mode(fstat(&end)?.st_mode) {
            FileType::Fifo => End::Pipe {
                end,
                between: pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?,
                held: 0,
            },
            FileType::Socket => End::Socket(end),
            FileType::RegularFile if tmpfs::has(&end)? => End::File(end.into()),
            _ => {
                let why = "it is no pipe, socket or file in memory";
                return Err(io::Error::new(ErrorKind::Unsupported, why));
            }
        };
        Ok(Self { end, goes_on })
    }
}

fn moved(from: impl AsFd, to: impl AsFd, bytes: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, bytes, SpliceFlags::NONBLOCK)?)
}

impl<F: Fn() -> bool> Read for Channel<F> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match &mut self.end {
            End::Pipe { end, between, held } => {
                if *held == 0 {
                    let moved = || moved(&*end, &between.1, PIPE);
                    *held = when(&*end, PollFlags::IN, &self.goes_on, moved)?;
                }
                if *held == 0 {
                    return Ok(0);
                }
                let read = rustix::io::read(&between.0, to)?;
                *held = held.saturating_sub(read);
                Ok(read)
            }
            End::Socket(end) => {
                let received = || {
                    let (bytes, _) = recv(&*end, &mut *to, RecvFlags::DONTWAIT)?;
                    Ok(bytes)
                };
                when(&*end, PollFlags::IN, &self.goes_on, received)
            }
            End::File(file) => file.read(to),
        }
    }
}

impl<F: Fn() -> bool> Write for Channel<F> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match &mut self.end {
            End::Pipe { end, between, held } => {
                let piece = from.get(..PIPE).unwrap_or(from);
                let written = rustix::io::write(&between.1, piece)?;
                *held = written;
                while *held > 0 {
                    let moved = || moved(&between.0, &*end, *held);
                    *held = held.saturating_sub(when(&*end, PollFlags::OUT, &self.goes_on, moved)?);
                }
                Ok(written)
            }
            End::Socket(end) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let sent = || Ok(send(&*end, from, flags)?);
                when(&*end, PollFlags::OUT, &self.goes_on, sent)
            }
            End::File(file) => file.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    /// More than any of them holds.
    const BYTES: usize = 3 << 20;

    fn content() -> Vec<u8> {
        (0..BYTES)
            .flat_map(usize::to_le_bytes)
            .take(BYTES)
            .collect()
    }

    /// Ends that block, as far as they say so themselves.
    fn ends() -> Vec<(OwnedFd, OwnedFd)> {
        let pipe = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        vec![pipe, (one.into(), other.into())]
    }

    #[test]
    fn what_is_written_is_read() {
        for (read, write) in ends() {
            let writer = std::thread::spawn(move || {
                let mut to = Channel::new(write, || true).unwrap();
                to.write_all(&content()).unwrap();
            });
            let mut all = Vec::new();
            let mut from = Channel::new(read, || true).unwrap();
            from.read_to_end(&mut all).unwrap();
            writer.join().unwrap();
            assert!(all == content());
        }
    }

    #[test]
    fn nobody_is_waited_for_longer_than_is_wanted() {
        for (read, write) in ends() {
            let kept = read.try_clone().unwrap();
            let mut from = Channel::new(read, || false).unwrap();
            let error = from.read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            let goes_on = AtomicBool::new(true);
            let looks = || goes_on.swap(false, SeqCst);
            let mut to = Channel::new(write, looks).unwrap();
            let error = to.write_all(&content()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            drop(kept);
        }
    }

    #[test]
    fn a_reader_that_left_is_an_error() {
        for (read, write) in ends() {
            drop(read);
            let mut to = Channel::new(write, || true).unwrap();
            let error = to.write_all(&content()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn what_has_no_end_is_not_taken() {
        // The latter is a regular file whose content somebody has to make.
        for path in ["/dev/null", "/proc/self/maps"] {
            let file = File::open(path).unwrap();
            let error = Channel::new(file.into(), || true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{path}");
        }
    }
}
