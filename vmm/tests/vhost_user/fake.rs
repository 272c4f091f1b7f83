// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A daemon that knows the messages, serves nothing, and misbehaves once.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use vhost::vhost_user::message::FrontendReq;

use crate::daemon::listen;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The connection is closed instead of an answer.
    Close,
    /// The connection is closed in the middle of the answer.
    CloseMidway,
    /// The answer is of another request.
    Other,
    /// The answer is random bytes.
    Garbage,
    /// The answer is followed by one that nobody asked for.
    Twice,
    /// The request is refused.
    Refuse,
    /// There is no answer, and the connection stays open.
    Silence,
}

/// What it says of its device.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) features: u64,
    pub(crate) space: Vec<u8>,
    pub(crate) queues: u64,
}

/// A request: its code and its body.
type Seen = (u32, Vec<u8>);

/// The daemon, on a thread of its own until it is dropped.
pub(crate) struct Fake {
    path: PathBuf,
    end: Arc<AtomicBool>,
    /// Requests of each connection so far, in their order.
    seen: Arc<Mutex<Vec<Vec<Seen>>>>,
    /// The connection that it reads from.
    open: Arc<Mutex<Option<UnixStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Listens at `path`; does `act` at the first `request`, once.
    pub(crate) fn new(path: &Path, device: Device, fault: Option<(FrontendReq, Act)>) -> Self {
        let listener = listen(path);
        let end = Arc::<AtomicBool>::default();
        let seen = Arc::<Mutex<Vec<Vec<Seen>>>>::default();
        let open = Arc::<Mutex<Option<UnixStream>>>::default();
        let (ended, requests, stream) = (end.clone(), seen.clone(), open.clone());
        let fault = fault.map(|(request, act)| (u32::from(request), act));
        let thread =
            thread::spawn(move || accept(&listener, &device, fault, &ended, (&requests, &stream)));
        Self {
            path: path.to_owned(),
            end,
            seen,
            open,
            thread: Some(thread),
        }
    }

    /// How often `request` came over the newest connection.
    pub(crate) fn seen(&self, request: FrontendReq) -> usize {
        self.bodies(request).len()
    }

    /// The bodies of all `request`s over the newest connection.
    pub(crate) fn bodies(&self, request: FrontendReq) -> Vec<Vec<u8>> {
        let seen = self.seen.lock().unwrap();
        let newest = seen.last().map_or(&[] as &[Seen], Vec::as_slice);
        let these = newest
            .iter()
            .filter(|(code, _)| *code == u32::from(request));
        these.map(|(_, body)| body.clone()).collect()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.end.store(true, SeqCst);
        // Ends the thread's wait, whichever it is.
        if let Some(stream) = &*self.open.lock().unwrap() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = UnixStream::connect(&self.path);
        // What went wrong in it was said.
        let _ = self.thread.take().unwrap().join();
    }
}

fn accept(
    listener: &UnixListener,
    device: &Device,
    mut fault: Option<(u32, Act)>,
    end: &AtomicBool,
    (seen, open): (&Mutex<Vec<Vec<Seen>>>, &Mutex<Option<UnixStream>>),
) {
    // Connections on which nothing is said stay open.
    let mut silent = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        *open.lock().unwrap() = Some(stream.try_clone().unwrap());
        if end.load(SeqCst) {
            return;
        }
        seen.lock().unwrap().push(Vec::new());
        while let Some((code, needs_reply, body)) = receive(&mut stream) {
            let request = (code, body.clone());
            seen.lock().unwrap().last_mut().unwrap().push(request);
            let act = fault.filter(|(at, _)| *at == code).map(|(_, act)| act);
            if act.is_some() {
                fault = None;
            }
            let Some(reply) = reply(code, needs_reply, &body, device) else {
                continue;
            };
            match act {
                None => {
                    // The front end may have left.
                    let _ = stream.write_all(&reply);
                    continue;
                }
                Some(Act::Close) => {}
                Some(Act::CloseMidway) => stream.write_all(&reply[..reply.len() - 3]).unwrap(),
                Some(Act::Other) => {
                    let mut other = reply;
                    other[0] ^= 0x1f;
                    stream.write_all(&other).unwrap();
                    continue;
                }
                Some(Act::Garbage) => {
                    let garbage: Vec<u8> = (0..200u32).map(|at| (at * 7 + 3) as u8).collect();
                    stream.write_all(&garbage).unwrap();
                    continue;
                }
                Some(Act::Twice) => {
                    stream.write_all(&reply).unwrap();
                    // The front end may have left.
                    let _ = stream.write_all(&reply);
                    continue;
                }
                Some(Act::Refuse) => {
                    let mut refusal = reply;
                    let body = &mut refusal[12..];
                    body.fill(0);
                    body[0] = 1;
                    let _ = stream.write_all(&refusal);
                    continue;
                }
                Some(Act::Silence) => {
                    silent.push(stream);
                }
            }
            break;
        }
    }
}

/// The next message: code, whether it wants an answer, body. Files that come
/// along are closed by the system.
fn receive(stream: &mut UnixStream) -> Option<(u32, bool, Vec<u8>)> {
    let mut header = [0; 12];
    stream.read_exact(&mut header).ok()?;
    let field = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
    assert_eq!(field(4) & 0x3, 1, "the version");
    let mut body = vec![0; field(8) as usize];
    stream.read_exact(&mut body).ok()?;
    Some((field(0), field(4) & 0x8 != 0, body))
}

/// What a well-behaved daemon answers.
fn reply(code: u32, needs_reply: bool, body: &[u8], device: &Device) -> Option<Vec<u8>> {
    let number = |value: u64| value.to_ne_bytes().to_vec();
    let is = |request: FrontendReq| code == u32::from(request);
    let answer = if is(FrontendReq::GET_FEATURES) {
        number(device.features)
    } else if is(FrontendReq::GET_PROTOCOL_FEATURES) {
        number(0xffff)
    } else if is(FrontendReq::GET_QUEUE_NUM) {
        number(device.queues)
    } else if is(FrontendReq::GET_CONFIG) {
        let wanted = body.len() - 12;
        let beyond = std::iter::repeat(&0);
        let space = device.space.iter().chain(beyond).take(wanted);
        body[..12].iter().chain(space).copied().collect()
    } else if is(FrontendReq::GET_VRING_BASE) {
        body.to_vec()
    } else if needs_reply {
        number(0)
    } else {
        return None;
    };
    let header = [code, 5, answer.len() as u32];
    let header = header.iter().flat_map(|field| field.to_ne_bytes());
    Some(header.chain(answer).collect())
}
