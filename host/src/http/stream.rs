// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Answers that take long: whoever gives one has the client's stream to itself, on a thread of its
//! own, and nobody else waits for that client.

use std::fmt::{self, Debug, Formatter};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::PollFlags;

use super::{Request, Response};
use crate::steady::{STALLED, when};

/// Goes on with a client's stream, which does not block, and its request.
pub type TakeOver = Box<dyn FnOnce(OwnedFd, Request) + Send>;

/// What is answered to a request.
pub enum Answer {
    /// This, at once.
    Said(Response),
    /// The stream is taken over; that is not to take long by itself.
    Stream(TakeOver),
}

impl Debug for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(response) => f.debug_tuple("Said").field(response).finish(),
            Self::Stream(_) => f.debug_tuple("Stream").finish_non_exhaustive(),
        }
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Said(response)
    }
}

/// A client's stream that may take any time, as long as something moves, and somebody says that it
/// is to go on.
#[derive(Debug)]
pub struct Steady<F> {
    stream: UnixStream,
    goes_on: F,
}

impl<F: Fn() -> bool> Steady<F> {
    /// Uses `stream`, which does not block, while `goes_on` says so.
    pub fn new(stream: OwnedFd, goes_on: F) -> Self {
        Self {
            stream: stream.into(),
            goes_on,
        }
    }

    /// Ends the answer, and reads what the client still sends, which it may before it reads the
    /// answer: a stream that is closed with something unread takes the answer along.
    pub fn end(mut self) {
        // A client that left needs no end.
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut nowhere = [0; 1 << 16];
        // Whoever sends for ever is left alone after a while.
        let until = Instant::now() + STALLED;
        while Instant::now() < until && matches!(self.read(&mut nowhere), Ok(1..)) {}
    }

    fn when<T>(
        &self,
        ready: PollFlags,
        mut act: impl FnMut(&UnixStream) -> io::Result<T>,
    ) -> io::Result<T> {
        when(&self.stream, ready, &self.goes_on, || act(&self.stream))
    }
}

impl<F: Fn() -> bool> Read for Steady<F> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.when(PollFlags::IN, |mut stream| stream.read(to))
    }
}

impl<F: Fn() -> bool> Write for Steady<F> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.when(PollFlags::OUT, |mut stream| stream.write(from))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steady::LOOK;
    use std::io::ErrorKind;

    #[test]
    fn a_client_that_does_nothing_is_left_when_it_is_to_end() {
        let (stream, other) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let until = Instant::now() + LOOK;
        let mut steady = Steady::new(stream.into(), || Instant::now() < until);
        let error = steady.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        let error = loop {
            if let Err(error) = steady.write(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        drop(other);
    }
}
