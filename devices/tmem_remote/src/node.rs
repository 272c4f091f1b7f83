// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A connection to a node.

use crate::resp::{self, Answer};
use crate::routes::Address;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a connection may take to be made, TLS not counted.
const CONNECT: Duration = Duration::from_millis(500);

/// What an operation may take, with all nodes that it asks.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Who is dripped at would wait for ever with a limit for each byte.
    until: Instant,
    /// Bytes of memory for answers.
    bytes: usize,
}

impl Limits {
    pub(crate) fn new(time: Duration, bytes: usize) -> Self {
        let until = Instant::now() + time;
        Self { until, bytes }
    }
}

/// How one comes to be served.
pub(crate) struct Access {
    /// `None`: connections are not encrypted.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// A connection to a node. After an error, it is of no use any more.
pub(crate) struct Node(BufReader<Channel>);

impl Node {
    /// Connects, and logs in.
    pub(crate) fn connect(
        access: &Access,
        address: &Address,
        limits: &mut Limits,
    ) -> io::Result<Self> {
        let stream = Limited::connect(address, limits.until)?;
        let channel = match &access.tls {
            None => Channel::Plain(stream),
            Some(config) => Channel::encrypted(config, &address.host, stream)?,
        };
        let mut node = Self(BufReader::new(channel));
        if let Some(password) = &access.password {
            let user = access.user.as_deref().map(str::as_bytes);
            let words: Vec<&[u8]> = [Some(b"AUTH".as_slice()), user, Some(password.as_bytes())]
                .into_iter()
                .flatten()
                .collect();
            match node.ask(&words, limits)? {
                Answer::Status(_) => {}
                other => {
                    return Err(io::Error::other(format!(
                        "it answers AUTH with {}",
                        other.kind()
                    )));
                }
            }
        }
        Ok(node)
    }

    /// Has it do one command.
    pub(crate) fn ask(&mut self, words: &[&[u8]], limits: &mut Limits) -> io::Result<Answer> {
        let mut command = Vec::new();
        resp::append(&mut command, words);
        self.send(&command, limits)?;
        self.receive(limits)
    }

    /// Sends commands.
    pub(crate) fn send(&mut self, commands: &[u8], limits: &Limits) -> io::Result<()> {
        if !self.0.buffer().is_empty() {
            // It would be taken for the answer to these.
            return Err(io::Error::other("it answers what nobody has asked"));
        }
        let channel = self.0.get_mut();
        channel.limited().until = limits.until;
        channel.write_all(commands)?;
        // Encrypted, a part may still be here.
        channel.flush()
    }

    /// The answer to the next command.
    pub(crate) fn receive(&mut self, limits: &mut Limits) -> io::Result<Answer> {
        self.0.get_mut().limited().until = limits.until;
        resp::read(&mut self.0, &mut limits.bytes)
    }
}

/// Bytes to and from a node.
enum Channel {
    Plain(Limited),
    Encrypted(Box<StreamOwned<ClientConnection, Limited>>),
}

impl Channel {
    fn encrypted(config: &Arc<ClientConfig>, host: &str, stream: Limited) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let client = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        Ok(Self::Encrypted(Box::new(StreamOwned::new(client, stream))))
    }

    fn limited(&mut self) -> &mut Limited {
        match self {
            Self::Plain(stream) => stream,
            Self::Encrypted(stream) => stream.get_mut(),
        }
    }
}

impl Read for Channel {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Encrypted(stream) => stream.read(bytes),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Encrypted(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Encrypted(stream) => stream.flush(),
        }
    }
}

/// A stream that nobody waits for longer than until a moment.
struct Limited {
    stream: TcpStream,
    until: Instant,
}

impl Limited {
    fn connect(address: &Address, until: Instant) -> io::Result<Self> {
        left(until)?;
        let mut failed = ErrorKind::NotFound.into();
        // Names take as long as the system says (resolv.conf).
        for address in (address.host.as_str(), address.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(until)?.min(CONNECT)) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Self { stream, until });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

impl Read for Limited {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        in_time(self.stream.read(bytes))
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        in_time(self.stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The time until a moment.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.checked_duration_since(Instant::now());
    left.filter(|left| !left.is_zero()).ok_or_else(too_long)
}

/// As the system says that time is up, others say that it is to be tried again.
fn in_time<T>(done: io::Result<T>) -> io::Result<T> {
    done.map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => too_long(),
        _ => error,
    })
}

fn too_long() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "it takes too long")
}
