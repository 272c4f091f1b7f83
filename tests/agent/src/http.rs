// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One HTTP request over a unix socket: how the daemon and the VMM are asked
//! and told things.

use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// For each read or write: the other end may be an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer larger than this, in bytes, is none of ours.
const LARGEST: u64 = 1 << 20;

/// What was answered.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Response {
    /// The status code, as 200.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Sends a request to `socket` and waits for the answer.
///
/// # Errors
/// Nobody listens, or what is answered is no HTTP.
pub fn request(socket: &Path, method: &str, path: &str, body: &str) -> Result<Response> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("nobody listens at {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream
        .write_all(text.as_bytes())
        .with_context(|| format!("{} does not listen", socket.display()))?;
    answer(&mut BufReader::new(stream.take(LARGEST)))
        .with_context(|| format!("{method} {path} at {}", socket.display()))
}

fn answer(stream: &mut impl BufRead) -> Result<Response> {
    let mut line = || -> Result<String> {
        let mut line = String::new();
        stream.read_line(&mut line).context("no answer")?;
        Ok(line.trim_end().to_string())
    };
    let first = line()?;
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .with_context(|| format!("answered with {first:?}, which is no HTTP"))?;
    let mut length = None;
    loop {
        let header = line()?;
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse().context("no length of the body")?);
        }
    }
    let mut body = String::new();
    // Without a length the body ends with the connection.
    stream
        .take(length.unwrap_or(LARGEST))
        .read_to_string(&mut body)
        .context("the body does not arrive")?;
    Ok(Response { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_body_ends_where_its_length_says_on_an_open_connection() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            let mut text = String::new();
            while !text.ends_with("\r\n\r\n") {
                stream.read_line(&mut text).unwrap();
            }
            let mut body = [0; 11];
            stream.read_exact(&mut body).unwrap();
            let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone";
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            // Open until the client has gone.
            stream.read_to_string(&mut String::new()).unwrap();
            (text, body)
        });
        let response = request(&socket, "PATCH", "/v1/vms/a", "{\"quota\":1}").unwrap();
        assert_eq!((response.status, response.body.as_str()), (404, "none"));
        let (head, body) = server.join().unwrap();
        assert!(head.starts_with("PATCH /v1/vms/a HTTP/1.1\r\n"), "{head}");
        assert_eq!(&body, b"{\"quota\":1}");
    }

    #[test]
    fn without_a_length_the_body_ends_with_the_connection() {
        let text = "HTTP/1.1 200 OK\r\nServer: x\r\n\r\nall of it\n";
        let response = answer(&mut text.as_bytes()).unwrap();
        assert_eq!(
            (response.status, response.body.as_str()),
            (200, "all of it\n")
        );
    }

    #[test]
    fn what_is_no_http_is_an_error() {
        assert!(answer(&mut "220 mail ready\r\n".as_bytes()).is_err());
        assert!(answer(&mut "".as_bytes()).is_err());
    }
}
