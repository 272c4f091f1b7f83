// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a client is answered.

use std::io::{self, Write};

use serde_json::{Value, json};

const JSON: &str = "application/json";

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP's status code.
    pub status: u16,
    /// The body's media type.
    pub content_type: &'static str,
    /// What is said.
    pub body: String,
}

impl Response {
    /// What was asked for.
    pub fn ok(content_type: &'static str, body: String) -> Self {
        Self {
            status: 200,
            content_type,
            body,
        }
    }

    /// What was asked for, as JSON that people can read.
    pub fn json(value: &Value) -> Self {
        Self::ok(JSON, format!("{value:#}\n"))
    }

    /// An error with a sentence for the client.
    pub fn error(status: u16, sentence: &str) -> Self {
        Self {
            status,
            content_type: JSON,
            body: json!({ "error": sentence }).to_string() + "\n",
        }
    }

    /// Sends it.
    ///
    /// # Errors
    /// When the client left, or does not read.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            409 => "Conflict",
            413 => "Content Too Large",
            500 => "Internal Server Error",
            503 => "Service Unavailable",
            _ => "Error",
        };
        write!(
            to,
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
            self.status,
            self.content_type,
            self.body.len(),
            self.body
        )?;
        to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_long_it_is() {
        let mut sent = Vec::new();
        let response = Response::error(404, "there is nothing");
        response.write(&mut sent).unwrap();
        let expected = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n\
            Content-Length: 29\r\nConnection: close\r\n\r\n{\"error\":\"there is nothing\"}\n";
        assert_eq!(String::from_utf8(sent).unwrap(), expected);
    }
}
