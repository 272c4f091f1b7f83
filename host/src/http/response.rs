// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a client is answered.

use std::io::{self, Write};

use serde_json::{Value, json};

/// The media type of JSON.
pub const JSON: &str = "application/json";

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP's status code.
    pub status: u16,
    /// The body's media type.
    pub content_type: &'static str,
    /// What is said.
    pub body: String,
    /// Another header, and its value.
    pub header: Option<(&'static str, String)>,
}

impl Response {
    /// What was asked for.
    pub fn ok(content_type: &'static str, body: String) -> Self {
        Self {
            status: 200,
            content_type,
            body,
            header: None,
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
            header: None,
        }
    }

    /// There is such a path, but only for the methods in `allowed`.
    pub fn not_allowed(allowed: &str) -> Self {
        let sentence = format!("only {allowed} can be done here");
        Self {
            header: Some(("Allow", allowed.to_owned())),
            ..Self::error(405, &sentence)
        }
    }

    /// It is done, and there is nothing to be said.
    pub fn no_content() -> Self {
        Self {
            status: 204,
            ..Self::ok(JSON, String::new())
        }
    }

    /// The same answer, to a request that made what is at `place` now.
    #[must_use]
    pub fn created(self, place: String) -> Self {
        Self {
            status: 201,
            header: Some(("Location", place)),
            ..self
        }
    }

    /// Sends it.
    ///
    /// # Errors
    /// When the client left, or does not read.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let reason = match self.status {
            200 => "OK",
            201 => "Created",
            204 => "No Content",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            409 => "Conflict",
            413 => "Content Too Large",
            500 => "Internal Server Error",
            503 => "Service Unavailable",
            _ => "Error",
        };
        write!(to, "HTTP/1.1 {} {reason}\r\n", self.status)?;
        if let Some((name, value)) = &self.header {
            write!(to, "{name}: {value}\r\n")?;
        }
        // An answer without content has no length (RFC 9110, 8.6).
        if self.status != 204 {
            let length = self.body.len();
            write!(
                to,
                "Content-Type: {}\r\nContent-Length: {length}\r\n",
                self.content_type
            )?;
        }
        write!(to, "Connection: close\r\n\r\n{}", self.body)?;
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

    #[test]
    fn an_answer_may_have_another_header_or_no_body() {
        let sent = |response: Response| {
            let mut sent = Vec::new();
            response.write(&mut sent).unwrap();
            String::from_utf8(sent).unwrap()
        };
        let none = sent(Response::no_content());
        let expected = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        assert_eq!(none, expected);
        let not_allowed = sent(Response::not_allowed("GET"));
        assert!(not_allowed.contains("\r\nAllow: GET\r\n"), "{not_allowed}");
        let made = sent(Response::json(&json!({})).created("/v1/vms/a".into()));
        assert!(
            made.starts_with("HTTP/1.1 201 Created\r\nLocation: /v1/vms/a\r\n"),
            "{made}"
        );
    }
}
