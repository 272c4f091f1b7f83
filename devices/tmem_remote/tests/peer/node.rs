// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A node by hand. It knows what the daemon asks of one, and says what a test wants it to say.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How it behaves.
#[derive(Clone)]
pub(crate) enum Mood {
    /// As a node should.
    Good,
    /// It never says a word.
    Silent,
    /// It answers some commands, or all (`""`), with these bytes.
    Says(&'static str, Vec<u8>),
    /// It answers some commands with the first bytes, and then with the others for ever.
    Floods(&'static str, &'static [u8], &'static [u8]),
    /// It answers as it should, a byte at a time.
    Drips(&'static str, Duration),
    /// It closes the connection in the middle of each answer to some commands.
    Hangs(&'static str),
    /// It changes what it has of values.
    Changes(Change),
}

pub(crate) type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// Of all values, a key, and what was asked for of it, makes what is answered.
pub(crate) type Change = fn(&Values, &[u8], Vec<u8>) -> Vec<u8>;

/// It serves until this is dropped.
pub(crate) struct Node {
    pub(crate) port: u16,
    state: Arc<State>,
}

struct State {
    port: u16,
    mood: Mutex<Mood>,
    values: Mutex<Values>,
    unlinked: AtomicUsize,
    together: AtomicUsize,
    is_over: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST)
    }

    /// One that has all addresses of this machine, and so can be many nodes.
    pub(crate) fn start_everywhere() -> Self {
        Self::start_at(Ipv4Addr::UNSPECIFIED)
    }

    fn start_at(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            port,
            mood: Mutex::new(Mood::Good),
            values: Mutex::default(),
            unlinked: AtomicUsize::new(0),
            together: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(SeqCst) {
                    break;
                }
                let (shared, stream) = (shared.clone(), stream.unwrap());
                // It ends with the connection.
                thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { port, state }
    }

    pub(crate) fn is(&self, mood: Mood) {
        *locked(&self.state.mood) = mood;
    }

    /// How many values it has.
    pub(crate) fn values(&self) -> usize {
        locked(&self.state.values).len()
    }

    /// How many UNLINKs have come, and how many of these before the one before was answered.
    pub(crate) fn unlinked(&self) -> (usize, usize) {
        let of = |count: &AtomicUsize| count.load(SeqCst);
        (of(&self.state.unlinked), of(&self.state.together))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.state.is_over.store(true, SeqCst);
        // Somebody has to come for it to be seen.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl State {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut from = BufReader::new(stream);
        loop {
            let is_here = !from.buffer().is_empty();
            let words = command(&mut from)?;
            let mood = locked(&self.mood).clone();
            let name = words.first().cloned().unwrap_or_default();
            if name == b"UNLINK" {
                self.unlinked.fetch_add(1, SeqCst);
                self.together.fetch_add(is_here.into(), SeqCst);
            }
            let is_for = |some: &str| some.is_empty() || some.as_bytes() == name;
            match mood {
                Mood::Silent => self.rest(Duration::MAX)?,
                Mood::Says(some, bytes) if is_for(some) => (&*stream).write_all(&bytes)?,
                Mood::Floods(some, first, then) if is_for(some) => {
                    (&*stream).write_all(first)?;
                    let much = then.repeat(64 << 10);
                    while !self.is_over.load(SeqCst) {
                        (&*stream).write_all(&much)?;
                    }
                }
                Mood::Drips(some, pause) if is_for(some) => {
                    for byte in self.answer(&words, &Mood::Good) {
                        self.rest(pause)?;
                        (&*stream).write_all(&[byte])?;
                    }
                }
                Mood::Hangs(some) if is_for(some) => {
                    let answer = self.answer(&words, &Mood::Good);
                    return (&*stream).write_all(&answer[..answer.len() / 2]);
                }
                mood => (&*stream).write_all(&self.answer(&words, &mood))?,
            }
        }
    }

    /// Waits, unless it is over.
    fn rest(&self, time: Duration) -> io::Result<()> {
        const STEP: Duration = Duration::from_millis(10);
        let mut rest = time;
        while !rest.is_zero() {
            if self.is_over.load(SeqCst) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            thread::sleep(rest.min(STEP));
            rest = rest.saturating_sub(STEP);
        }
        Ok(())
    }

    fn answer(&self, words: &[Vec<u8>], mood: &Mood) -> Vec<u8> {
        let word = |nth: usize| words.get(nth).cloned().unwrap_or_default();
        let number =
            |nth: usize| -> usize { String::from_utf8(word(nth)).unwrap().parse().unwrap() };
        let mut values = locked(&self.values);
        match word(0).as_slice() {
            b"PING" => b"+PONG\r\n".to_vec(),
            b"CLUSTER" => slots(&[(0, 16383, "127.0.0.1", self.port)]),
            b"SET" => {
                let old = values.get(&word(1)).cloned();
                let is_kept = words.get(3).is_some_and(|word| word == b"NX");
                match (old, is_kept) {
                    (Some(old), true) => return bulk(&old),
                    (None, true) => {
                        values.insert(word(1), word(2));
                        return b"$-1\r\n".to_vec();
                    }
                    (_, false) => values.insert(word(1), word(2)),
                };
                b"+OK\r\n".to_vec()
            }
            b"WAIT" => b":1\r\n".to_vec(),
            b"GETRANGE" => {
                let value = values.get(&word(1)).cloned().unwrap_or_default();
                let end = value.len().min(number(3) + 1);
                let mut part = value[number(2).min(end)..end].to_vec();
                if let Mood::Changes(change) = mood {
                    part = change(&values, &word(1), part);
                }
                bulk(&part)
            }
            b"UNLINK" => {
                let found = values.remove(&word(1)).is_some();
                format!(":{}\r\n", u8::from(found)).into_bytes()
            }
            b"SCAN" => {
                let mut answer = format!("*2\r\n$1\r\n0\r\n*{}\r\n", values.len()).into_bytes();
                values.keys().for_each(|key| answer.extend(bulk(key)));
                answer
            }
            _ => b"-ERR unknown command\r\n".to_vec(),
        }
    }
}

pub(crate) fn bulk(bytes: &[u8]) -> Vec<u8> {
    let mut bulk = format!("${}\r\n", bytes.len()).into_bytes();
    bulk.extend_from_slice(bytes);
    bulk.extend_from_slice(b"\r\n");
    bulk
}

/// What CLUSTER SLOTS answers: where slots from one to another are.
pub(crate) fn slots(ranges: &[(u16, u16, &str, u16)]) -> Vec<u8> {
    let mut answer = format!("*{}\r\n", ranges.len()).into_bytes();
    for (first, last, host, port) in ranges {
        answer.extend_from_slice(format!("*3\r\n:{first}\r\n:{last}\r\n*2\r\n").as_bytes());
        answer.extend(bulk(host.as_bytes()));
        answer.extend_from_slice(format!(":{port}\r\n").as_bytes());
    }
    answer
}

fn command(from: &mut impl BufRead) -> io::Result<Vec<Vec<u8>>> {
    let count = length(from)?;
    (0..count)
        .map(|_| {
            let mut word = vec![0; length(from)?];
            from.read_exact(&mut word)?;
            from.read_exact(&mut [0; 2])?;
            Ok(word)
        })
        .collect()
}

fn length(from: &mut impl BufRead) -> io::Result<usize> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let length = line.get(1..).unwrap_or_default().trim().parse();
    length.map_err(|_| io::ErrorKind::InvalidData.into())
}
