// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One client after the other, until the program stops.

use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{PATIENCE, Request, Response, read};

/// Answers one client of `listener` after the other until `stop` becomes
/// readable, and stays so. A client that says or reads nothing is dropped after
/// [`PATIENCE`]. Whoever may connect is trusted to the extent of keeping others
/// waiting that long.
pub fn serve(listener: &UnixListener, stop: &impl AsFd, answer: impl Fn(&Request) -> Response) {
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
        match listener.accept() {
            Ok((stream, _)) if speaks(&stream, stop) => attend(stream, &answer),
            Ok(_) => {}
            Err(error) => {
                log::warn!("cannot accept a control connection: {error}");
                rest(stop);
            }
        }
    }
}

/// Reads a client's request and answers it.
fn attend(mut stream: UnixStream, answer: impl Fn(&Request) -> Response) {
    let limited = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    if limited.is_err() {
        return;
    }
    let response = match read(&mut stream) {
        Ok(request) => answer(&request),
        Err(refusal) => refusal,
    };
    // A client that left does not want the answer.
    let _ = response.write(&mut stream);
}

/// Waits until a client says something, or leaves; not once the program stops.
fn speaks(stream: &UnixStream, stop: &impl AsFd) -> bool {
    let mut fds = [
        PollFd::new(stream, PollFlags::IN),
        PollFd::new(stop, PollFlags::IN),
    ];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut fds, Some(&left)) {
            Err(Errno::INTR) => {}
            _ => return fds.first().is_some_and(|fd| !fd.revents().is_empty()),
        }
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
    use std::io::{Read, Write};
    use std::thread;

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
            let serving = scope.spawn(|| serve(&listener, &stop, echo));
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
            let serving = scope.spawn(|| serve(&listener, &stop, |_| unreachable!()));
            let _silent = UnixStream::connect(&path).unwrap();
            drop(stopper);
            serving.join().unwrap();
        });
        assert!(began.elapsed() < PATIENCE);
    }
}
