// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! As much of HTTP/1.1 as the control API needs: one request for each connection, whose
//! end is the end of the answer. Crates for HTTP bring an async runtime, TLS or both.

use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tmem_cli::chunked::{Decoder, Encoder};

/// How long the other side may say nothing: it may be about to free many pages.
const PATIENCE: Duration = Duration::from_secs(120);

/// Most bytes of an answer: thousands of virtual machines with all metrics.
const MOST: u64 = 64 << 20;

/// Most bytes of an answer's head.
const MAX_HEAD: u64 = 16 << 10;

/// Bytes that are sent or read at a time.
const PIECE: usize = 256 << 10;

/// What the other side says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// HTTP's status code.
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Asks at the socket `at`.
///
/// # Errors
/// A sentence with the way out.
pub(super) fn ask(at: &Path, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
    let mut stream = UnixStream::connect(at).map_err(|error| nobody(at, &error))?;
    let answered = exchange(&mut stream, method, path, body);
    answered.with_context(|| odd(at))
}

/// Asks at the socket `at` for a body that may have any length, and has it written to `to`. What a
/// trailer says of it; or an answer without such a body.
///
/// # Errors
/// A sentence with the way out.
pub(super) fn fetch(
    at: &Path,
    path: &str,
    to: &mut impl Write,
) -> Result<std::result::Result<String, Answer>> {
    let mut stream = connect(at)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .with_context(|| odd(at))?;
    let mut from = BufReader::with_capacity(PIECE, stream);
    let mut head = Vec::new();
    while !head.ends_with(END) {
        let mut bounded = (&mut from).take(MAX_HEAD);
        let read = bounded.read_until(b'\n', &mut head);
        let read = read.with_context(|| odd(at))?;
        ensure!(read > 0 && head.len() as u64 <= MAX_HEAD, odd(at));
    }
    // What follows may be a refusal, with a length.
    let status = std::str::from_utf8(&head).ok().and_then(status);
    if status != Some(200) {
        from.take(MOST)
            .read_to_end(&mut head)
            .with_context(|| odd(at))?;
        return Ok(Err(parse(&head)?));
    }
    let mut body = Decoder::new(from);
    let mut piece = vec![0; PIECE];
    loop {
        let read = body.read(&mut piece);
        let read = read.context("the daemon did not send all of it; look at its log")?;
        let Some(piece) = piece.get(..read).filter(|piece| !piece.is_empty()) else {
            break;
        };
        to.write_all(piece).context("cannot write")?;
    }
    if let Some(why) = body.trailer("Tmem-Error") {
        bail!("{why}");
    }
    let said = body.trailer("Tmem-Totals").map(str::to_owned);
    Ok(Ok(said.with_context(|| odd(at))?))
}

/// Sends a body that may have any length to the socket `at`.
///
/// # Errors
/// A sentence with the way out.
pub(super) fn send(at: &Path, path: &str, from: &mut impl Read) -> Result<Answer> {
    let mut stream = connect(at)?;
    write!(
        stream,
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .with_context(|| odd(at))?;
    // One that refuses says why, and may read no more.
    let sent = send_body(&stream, from)?;
    let mut bytes = Vec::new();
    let read = stream.take(MOST).read_to_end(&mut bytes);
    if bytes.is_empty() {
        sent.with_context(|| odd(at))?;
        read.with_context(|| odd(at))?;
    }
    parse(&bytes)
}

/// What came of sending all of `from`.
///
/// # Errors
/// When it cannot be read.
fn send_body(stream: &UnixStream, from: &mut impl Read) -> Result<io::Result<()>> {
    let mut body = Encoder::new(BufWriter::with_capacity(PIECE, stream));
    let mut piece = vec![0; PIECE];
    loop {
        let read = match from.read(&mut piece) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot read"),
        };
        let Some(piece) = piece.get(..read).filter(|piece| !piece.is_empty()) else {
            return Ok(body.end(&[]));
        };
        if let Err(error) = body.write_all(piece) {
            return Ok(Err(error));
        }
    }
}

fn connect(at: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(at).map_err(|error| nobody(at, &error))?;
    stream.be_patient()?;
    Ok(stream)
}

fn odd(at: &Path) -> String {
    format!(
        "the daemon at {} does not answer as it should",
        at.display()
    )
}

/// Why nobody can be asked.
fn nobody(at: &Path, error: &io::Error) -> anyhow::Error {
    let at = at.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "no daemon listens at {at}: this is a command for the host; start vhost-user-tmem there with --control-socket, or say with --control PATH where its socket is, or that of a tmem-vmm"
        ),
        ErrorKind::PermissionDenied => anyhow::anyhow!(
            "you may not use {at}: be root, the daemon's own user, or in the group of its --control-group or --api-group"
        ),
        _ => anyhow::anyhow!("cannot connect to {at}: {error}"),
    }
}

fn exchange(
    stream: &mut (impl Read + Write + Timed),
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Answer> {
    stream.be_patient()?;
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    // One that refuses may have closed already, and its answer is there to be read.
    let sent = stream.write_all(&request);
    let mut bytes = Vec::new();
    let read = stream.take(MOST).read_to_end(&mut bytes);
    if bytes.is_empty() {
        sent?;
    }
    match read {
        Err(error) if bytes.is_empty() => bail!(error),
        _ => parse(&bytes),
    }
}

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";

/// The status that a head begins with.
fn status(head: &str) -> Option<u16> {
    let (version, rest) = head.split("\r\n").next()?.split_once(' ')?;
    let digits = rest.split(' ').next()?;
    let status = digits.parse().ok().filter(|it| (100..600).contains(it));
    status.filter(|_| version.starts_with("HTTP/1."))
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let end = bytes.windows(END.len()).position(|window| window == END);
    let end = end.context("its answer is not complete")?;
    let (head, rest) = bytes.split_at(end);
    let body = rest.get(END.len()..).unwrap_or_default();
    let head = std::str::from_utf8(head).context("its answer is no HTTP")?;
    let mut lines = head.split("\r\n");
    let status = status(head);
    lines.next();
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    if let Some(length) = length {
        ensure!(body.len() == length, "its answer is not complete");
    }
    Ok(Answer {
        status: status.context("its answer is no HTTP")?,
        body: body.to_vec(),
    })
}

/// What has a limit on waiting.
trait Timed {
    fn be_patient(&self) -> io::Result<()>;
}

impl Timed for UnixStream {
    fn be_patient(&self) -> io::Result<()> {
        self.set_read_timeout(Some(PATIENCE))?;
        self.set_write_timeout(Some(PATIENCE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn answers_are_read_whole_or_refused() {
        let answer = parse(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\nX: y\r\n\r\n{}").unwrap();
        assert_eq!((answer.status, &*answer.body), (201, &b"{}"[..]));
        let answer = parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!((answer.status, &*answer.body), (204, &b""[..]));
        for bytes in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{",
            b"HTTP/1.1 99 OK\r\n\r\n",
            b"SSH-2.0 200\r\n\r\n",
            b"\xff\xff\r\n\r\n",
        ] {
            parse(bytes).unwrap_err();
        }
    }

    #[test]
    fn who_is_not_there_is_named_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        for _ in 0..2 {
            let error = ask(&path, "GET", "/", b"").unwrap_err().to_string();
            assert!(
                error.contains("for the host") && error.contains("--control"),
                "{error}"
            );
            // Then nobody listens any more.
            drop(UnixListener::bind(&path));
        }
    }

    #[test]
    fn a_refusal_in_place_of_a_body_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let refuses = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(END) {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let head = b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n";
            stream.write_all(head).unwrap();
            stream.write_all(b"{}").unwrap();
        });
        let mut nothing = Vec::new();
        let answer = fetch(&path, "/", &mut nothing).unwrap().unwrap_err();
        assert_eq!((answer.status, &*answer.body), (409, &b"{}"[..]));
        assert!(nothing.is_empty());
        refuses.join().unwrap();
    }

    #[test]
    fn a_refusal_is_read_though_the_request_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let refuses = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n{}")
                .unwrap();
        });
        let body = vec![b' '; 4 << 20];
        let answer = ask(&path, "POST", "/", &body).unwrap();
        assert_eq!(answer.status, 403);
        refuses.join().unwrap();
    }
}
