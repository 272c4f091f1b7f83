// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a client asks for.

use std::io::{self, Read};
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{PATIENCE, Response};

/// Most bytes of a request line with its headers: several times what curl and
/// Prometheus send.
const MAX_HEAD: usize = 8 << 10;

/// Most headers.
const MAX_HEADERS: usize = 64;

/// Most bytes of a body: settings are tiny.
const MAX_BODY: usize = 4 << 10;

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// GET, PUT and the like.
    pub method: String,
    /// The path, without a query.
    pub path: String,
    /// What media types the client reads, as its `Accept` header says; empty without one.
    pub accept: String,
    /// What was sent along, at most 4 KiB.
    pub body: Vec<u8>,
    /// The body comes in chunks, and is still to be read; what has come of it is in `body`.
    pub is_chunked: bool,
    /// The client waits to be told that it may send the body.
    pub expects_continue: bool,
}

impl Request {
    /// The body as a JSON object. A list is none, even if it holds what `T`
    /// needs in its order.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn object<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        let object: Map<String, Value> = serde_json::from_slice(&self.body)?;
        serde_json::from_value(Value::Object(object))
    }
}

/// What the head of a request says.
struct Head {
    method: String,
    path: String,
    accept: String,
    /// Bytes of the head.
    len: usize,
    /// Bytes of the body.
    body: usize,
    is_chunked: bool,
    expects_continue: bool,
}

/// Reads a request, for about as long as [`PATIENCE`] if reads from `from` are
/// bounded by it.
///
/// # Errors
/// The answer to a request that is malformed, too long or too slow.
pub fn read(from: &mut impl Read) -> Result<Request, Response> {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(head) = parse(&bytes)? {
            break head;
        }
        if bytes.len() >= MAX_HEAD {
            return Err(Response::error(413, "the request's headers are too long"));
        }
        more(from, &mut bytes, MAX_HEAD, deadline)?;
    };
    if head.body > MAX_BODY {
        let sentence = format!("a body is at most {MAX_BODY} bytes");
        return Err(Response::error(413, &sentence));
    }
    let end = head.len + head.body;
    while bytes.len() < end {
        more(from, &mut bytes, end, deadline)?;
    }
    Ok(Request {
        method: head.method,
        path: head.path,
        accept: head.accept,
        body: match head.is_chunked {
            true => bytes.get(head.len..),
            false => bytes.get(head.len..end),
        }
        .unwrap_or_default()
        .to_vec(),
        is_chunked: head.is_chunked,
        expects_continue: head.expects_continue,
    })
}

/// Reads some bytes more, up to `most` in all.
fn more(
    from: &mut impl Read,
    bytes: &mut Vec<u8>,
    most: usize,
    deadline: Instant,
) -> Result<(), Response> {
    let mut piece = [0; 1024];
    let room = piece.len().min(most.saturating_sub(bytes.len()));
    let piece = piece.get_mut(..room).unwrap_or_default();
    let late = || Response::error(408, "the request took too long");
    if Instant::now() >= deadline {
        return Err(late());
    }
    match from.read(piece) {
        Ok(0) => Err(Response::error(400, "the request ends too early")),
        Ok(count) => {
            bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(_) => Err(late()),
    }
}

/// Parses a request's head; `None` if it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<Head>, Response> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => {
            let sentence = format!("this is no HTTP request: {error}");
            return Err(Response::error(400, &sentence));
        }
    };
    let (mut body, mut is_chunked, mut expects_continue) = (0, false, false);
    let mut accept = Vec::new();
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !header.value.eq_ignore_ascii_case(b"chunked") {
                let sentence = "send the body in chunks, or with a Content-Length";
                return Err(Response::error(400, sentence));
            }
            is_chunked = true;
        }
        if header.name.eq_ignore_ascii_case("expect") {
            expects_continue |= header.value.eq_ignore_ascii_case(b"100-continue");
        }
        if header.name.eq_ignore_ascii_case("accept") {
            accept.push(String::from_utf8_lossy(header.value));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            body = std::str::from_utf8(header.value)
                .ok()
                .and_then(|value| value.trim().parse().ok())
                .ok_or_else(|| Response::error(400, "the Content-Length is no number"))?;
        }
    }
    if is_chunked && body > 0 {
        let sentence = "a body that comes in chunks has no Content-Length";
        return Err(Response::error(400, sentence));
    }
    let target = request.path.unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    Ok(Some(Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        // Several headers are one list (RFC 9110, 5.3).
        accept: accept.join(","),
        len,
        body,
        is_chunked,
        expects_continue,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(bytes: &[u8]) -> u16 {
        read(&mut &*bytes).map_or_else(|refusal| refusal.status, |_| 200)
    }

    #[test]
    fn a_request_is_read_whatever_pieces_it_comes_in() {
        struct Bytewise<'a>(&'a [u8]);
        impl Read for Bytewise<'_> {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                let len = to.len().min(1);
                self.0.read(&mut to[..len])
            }
        }
        let bytes = b"PUT /v1/vms/a?x HTTP/1.1\r\nAccept: a/b\r\nContent-Length: 5\r\naccept: c/d\r\n\r\nhello";
        let request = read(&mut Bytewise(bytes)).unwrap();
        assert_eq!(request.method, "PUT");
        assert_eq!(request.path, "/v1/vms/a");
        assert_eq!(request.accept, "a/b,c/d");
        assert_eq!(request.body, b"hello");
    }

    #[test]
    fn what_is_malformed_or_too_long_is_refused() {
        assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), 200);
        assert_eq!(status(b""), 400);
        assert_eq!(status(b"\xff\xfe\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\n"), 400);
        assert_eq!(status(b"PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n"), 400);
        assert_eq!(status(b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400);
        let coded = b"PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n";
        assert_eq!(status(coded), 400);
        let both = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(status(both), 400);
        let long = b"PUT / HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n";
        assert_eq!(status(long), 413);
        let mut endless = b"GET / HTTP/1.1\r\nX: ".to_vec();
        endless.resize(1 << 20, b'x');
        assert_eq!(status(&endless), 413);
    }

    #[test]
    fn a_body_in_chunks_is_left_to_be_read() {
        let bytes = b"PUT /a HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\n{}";
        let request = read(&mut bytes.as_slice()).unwrap();
        assert!(request.is_chunked);
        assert_eq!(request.body, b"2\r\n{}");
    }

    #[test]
    fn a_body_must_be_a_json_object() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Change {
            quota: u64,
        }
        let change = |body: &str| {
            let request = Request {
                method: "PUT".into(),
                path: "/".into(),
                body: body.into(),
                ..Request::default()
            };
            request.object::<Change>().ok()
        };
        assert_eq!(change("{\"quota\": 7}"), Some(Change { quota: 7 }));
        for body in ["", "[7]", "{}", "{\"quota\": -1}", "\u{0}"] {
            assert_eq!(change(body), None, "{body}");
        }
    }
}
