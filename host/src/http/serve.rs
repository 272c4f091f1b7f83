// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One client after the other, until the program stops.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::{Answer, Guard, PATIENCE, Request, TakeOver, read};

/// A socket that clients connect to.
pub trait Listener: AsFd {
    /// A connection to one of them.
    type Stream: AsFd + From<OwnedFd> + Into<OwnedFd>;
}

impl Listener for UnixListener {
    type Stream = UnixStream;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
}

/// Answers one client of `listener` after the other until `stop` becomes
/// readable, and stays so. A client that has not said all, or not read all, within
/// [`PATIENCE`] is dropped, however busy it is in between. Whom `guard` lets in, everybody
/// without one, is trusted to the extent of keeping others waiting that long; who else comes is
/// told so at once.
pub fn serve<L: Listener, A: Into<Answer>>(
    listener: &L,
    stop: &impl AsFd,
    guard: Option<Guard>,
    answer: impl Fn(&Request) -> A,
) where
    for<'s> &'s L::Stream: Read + Write,
{
    loop {
        let mut fds = [
            PollFd::new(stop, PollFlags::IN),
            PollFd::new(listener, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => {
                log::error!("cannot wait for control connections: {error}");
                return;
            }
        }
        let [stopped, _] = fds.map(|fd| !fd.revents().is_empty());
        if stopped {
            return;
        }
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(stream) => {
                let stream = L::Stream::from(stream);
                match guard.map_or(Ok(()), |guard| guard.judge(&stream)) {
                    Ok(()) => {
                        if let Some((take_over, request)) = attend(&stream, stop, &answer) {
                            take_over(stream.into(), request);
                        }
                    }
                    // What fits is sent, and nobody is waited for.
                    Err(refusal) => drop(refusal.write(&mut &stream)),
                }
            }
            // The client left before it was accepted.
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => {}
            Err(error) => {
                log::warn!("cannot accept a control connection: {error}");
                rest(stop);
            }
        }
    }
}

/// Reads a client's request and answers it, or leaves that to who takes the stream over. The stream
/// does not block.
fn attend<C: AsFd, A: Into<Answer>>(
    stream: &C,
    stop: &impl AsFd,
    answer: impl Fn(&Request) -> A,
) -> Option<(TakeOver, Request)>
where
    for<'s> &'s C: Read + Write,
{
    let mut client = Client {
        stream,
        stop,
        deadline: Instant::now() + PATIENCE,
    };
    let response = match read(&mut client) {
        Ok(request) => match answer(&request).into() {
            Answer::Said(response) => response,
            Answer::Stream(take_over) => return Some((take_over, request)),
        },
        Err(refusal) => refusal,
    };
    // A client that left does not want the answer.
    let _ = response.write(&mut client);
    None
}

/// A client that has so much time. Once the program stops, nobody waits for it any more.
struct Client<'a, C, S> {
    stream: &'a C,
    stop: &'a S,
    deadline: Instant,
}

impl<C: AsFd, S: AsFd> Client<'_, C, S> {
    /// Does something as soon as the client is ready for it.
    fn when<T>(&self, ready: PollFlags, mut act: impl FnMut(&C) -> io::Result<T>) -> io::Result<T> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut fds = [
                PollFd::new(self.stream, ready),
                PollFd::new(self.stop, PollFlags::IN),
            ];
            let left = Timespec::try_from(left).unwrap_or_default();
            match poll(&mut fds, Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [client, stop] = fds.map(|fd| !fd.revents().is_empty());
            // The answer may be to the request that ends the program: who reads it gets it.
            if stop && !(client && ready == PollFlags::OUT) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if client {
                match act(self.stream) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return done,
                }
            }
        }
    }
}

impl<C: AsFd, S: AsFd> Read for Client<'_, C, S>
where
    for<'s> &'s C: Read,
{
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.when(PollFlags::IN, |mut stream| stream.read(to))
    }
}

impl<C: AsFd, S: AsFd> Write for Client<'_, C, S>
where
    for<'s> &'s C: Write,
{
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.when(PollFlags::OUT, |mut stream| stream.write(from))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits a while, because the system is out of something, or until `stop`.
fn rest(stop: &impl AsFd) {
    let mut fds = [PollFd::new(stop, PollFlags::IN)];
    let time = Timespec::try_from(PATIENCE).unwrap_or_default();
    // However it ends, the caller looks at `stop` next.
    let _ = poll(&mut fds, Some(&time));
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::super::Response;
    use super::*;

    fn ask(path: &std::path::Path, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(request).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn clients_are_answered_until_it_is_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (stop, stopper) = UnixStream::pair().unwrap();
        let echo = |request: &Request| Response::ok("text/plain", request.path.clone());
        thread::scope(|scope| {
            let serving = scope.spawn(|| serve(&listener, &stop, Some(Guard::own()), echo));
            let said = ask(&path, b"GET /one HTTP/1.1\r\n\r\n");
            assert!(said.ends_with("\r\n\r\n/one"), "{said}");
            // A client that leaves at once is no reason to end.
            drop(UnixStream::connect(&path).unwrap());
            let said = ask(&path, b"nonsense\r\n\r\n");
            assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
            drop(stopper);
            serving.join().unwrap();
        });
    }

    #[test]
    fn a_client_that_says_nothing_does_not_hold_up_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (stop, stopper) = UnixStream::pair().unwrap();
        let began = Instant::now();
        thread::scope(|scope| {
            let serving = scope.spawn(|| {
                serve(&listener, &stop, Some(Guard::own()), |_| -> Response {
                    unreachable!()
                });
            });
            let _silent = UnixStream::connect(&path).unwrap();
            drop(stopper);
            serving.join().unwrap();
        });
        assert!(began.elapsed() < PATIENCE);
    }

    #[test]
    fn over_tcp_everybody_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopper) = UnixStream::pair().unwrap();
        let echo = |request: &Request| Response::ok("text/plain", request.path.clone());
        thread::scope(|scope| {
            let serving = scope.spawn(|| serve(&listener, &stop, None, echo));
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(b"GET /one HTTP/1.1\r\n\r\n").unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert!(said.ends_with("\r\n\r\n/one"), "{said}");
            drop(stopper);
            serving.join().unwrap();
        });
    }

    /// Serves on a socket while `client` uses it, then stops; how long that took.
    fn stops_within(client: impl FnOnce(&std::path::Path)) -> Duration {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (stop, stopper) = UnixStream::pair().unwrap();
        let large = |_: &Request| Response::ok("text/plain", "x".repeat(8 << 20));
        thread::scope(|scope| {
            let serving = scope.spawn(|| serve(&listener, &stop, Some(Guard::own()), large));
            client(&path);
            let began = Instant::now();
            drop(stopper);
            serving.join().unwrap();
            began.elapsed()
        })
    }

    #[test]
    fn a_client_in_the_middle_of_its_request_does_not_hold_up_the_end() {
        let mut kept = None;
        let took = stops_within(|path| {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(b"GET /o").unwrap();
            kept = Some(stream);
        });
        assert!(took < PATIENCE / 2, "{took:?}");
    }

    #[test]
    fn nor_does_one_that_reads_no_answer() {
        let mut kept = None;
        let took = stops_within(|path| {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            // Some of the answer is there: the rest does not fit.
            let mut first = [0];
            stream.read_exact(&mut first).unwrap();
            kept = Some(stream);
        });
        assert!(took < PATIENCE / 2, "{took:?}");
    }
}
