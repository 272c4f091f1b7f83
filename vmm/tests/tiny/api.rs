// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The API's client, and what it does to a guest.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::vmm::PATIENCE;

/// Makes a request; gives the status and the body.
pub(crate) fn request(socket: &Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let (head, body) = exchange(socket, method, path, body);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body)
}

/// Makes a request; gives the head and the body of the answer.
pub(crate) fn exchange(socket: &Path, method: &str, path: &str, body: &str) -> (String, String) {
    let mut stream = send(socket, method, path, body);
    let mut answer = Vec::new();
    // Whoever refuses without reading may have closed already.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Makes a request after which the program may end before it has answered.
pub(crate) fn ask_last(socket: &Path, method: &str, path: &str) {
    let mut stream = send(socket, method, path, "");
    // In vain, then.
    let _ = stream.read_to_end(&mut Vec::new());
}

fn send(socket: &Path, method: &str, path: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    // Whoever refuses may have closed already.
    let _ = write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: vm\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream
}

/// Makes a request that succeeds; gives the JSON.
pub(crate) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Value {
    let (status, body) = request(socket, method, path, body);
    assert_eq!(status, 200, "{method} {path}: {body}");
    serde_json::from_str(&body).unwrap()
}
