// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands and answers as they are on a connection (RESP2).
//!
//! An answer may be anything. No length in it is believed: what is kept of it is limited by what was
//! asked for.

use std::io::{self, BufRead, ErrorKind, Read};

/// How deep arrays are in arrays, at most. CLUSTER SLOTS has four levels.
const DEPTH: u32 = 8;

/// Longest line: an error, a status or a length.
const LINE: u64 = 4096;

/// What an answer is counted as beside its bytes: no less than it takes in memory, also while the array
/// that it is in grows.
const ANSWER: usize = 2 * size_of::<Answer>();

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There is nothing.
    Nothing,
    /// A status: mostly `OK`.
    Status(String),
    /// The node refuses.
    Error(String),
    Number(i64),
    Bytes(Vec<u8>),
    Array(Vec<Self>),
}

impl Answer {
    /// What bytes or a status say.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) => str::from_utf8(bytes).ok(),
            Self::Status(text) => Some(text),
            _ => None,
        }
    }

    /// For a sentence about an answer that does not go.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Nothing => "nothing".into(),
            Self::Status(text) | Self::Error(text) => text.chars().take(60).collect(),
            Self::Number(number) => number.to_string(),
            Self::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Self::Array(answers) => format!("{} answers", answers.len()),
        }
    }
}

/// Appends a command to others.
pub(crate) fn append(commands: &mut Vec<u8>, words: &[&[u8]]) {
    commands.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        commands.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        commands.extend_from_slice(word);
        commands.extend_from_slice(b"\r\n");
    }
}

/// Reads an answer. What it takes in memory is subtracted from `left`.
///
/// # Errors
/// Those of `from`; [`ErrorKind::InvalidData`] if it is none, or takes more than is left.
pub(crate) fn read(from: &mut impl BufRead, left: &mut usize) -> io::Result<Answer> {
    answer(from, left, DEPTH)
}

fn answer(from: &mut impl BufRead, left: &mut usize, depth: u32) -> io::Result<Answer> {
    let line = line(from)?;
    let (kind, rest) = line.split_at_checked(1).unwrap_or_default();
    take(left, ANSWER + rest.len())?;
    match kind {
        b"+" => Ok(Answer::Status(text(rest))),
        b"-" => Ok(Answer::Error(text(rest))),
        b":" => number(rest).map(Answer::Number),
        b"$" => match length(rest)? {
            None => Ok(Answer::Nothing),
            Some(len) => {
                take(left, len)?;
                bytes(from, len).map(Answer::Bytes)
            }
        },
        b"*" => match (length(rest)?, depth.checked_sub(1)) {
            (None, _) => Ok(Answer::Nothing),
            (_, None) => Err(wrong("arrays in arrays")),
            (Some(len), Some(depth)) => {
                let mut answers = Vec::new();
                for _ in 0..len {
                    // Each is counted before there is room for it.
                    answers.push(answer(from, left, depth)?);
                }
                Ok(Answer::Array(answers))
            }
        },
        _ => Err(wrong("what is no answer")),
    }
}

/// A line without its end.
fn line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(line.to_vec()),
        None => Err(wrong("a line without an end")),
    }
}

fn bytes(from: &mut impl BufRead, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len)?;
    let most = u64::try_from(len).unwrap_or(u64::MAX);
    from.take(most).read_to_end(&mut bytes)?;
    let mut end = [0; 2];
    from.read_exact(&mut end)?;
    match bytes.len() == len && end == *b"\r\n" {
        true => Ok(bytes),
        false => Err(wrong("bytes without an end")),
    }
}

fn take(left: &mut usize, bytes: usize) -> io::Result<()> {
    let rest = left.checked_sub(bytes);
    *left = rest.ok_or_else(|| wrong("more than was asked for"))?;
    Ok(())
}

fn number(text: &[u8]) -> io::Result<i64> {
    let text = str::from_utf8(text).ok();
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| wrong("what is no number"))
}

/// A length; `None`: there is nothing.
fn length(text: &[u8]) -> io::Result<Option<usize>> {
    match number(text)? {
        -1 => Ok(None),
        len => usize::try_from(len)
            .map(Some)
            .map_err(|_| wrong("what is no length")),
    }
}

/// Text that may be in a log.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = |it: char| if it.is_control() { ' ' } else { it };
    text.chars().map(shown).collect()
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("it answers with {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, mut left: usize) -> io::Result<Answer> {
        super::read(&mut text.as_bytes(), &mut left)
    }

    #[test]
    fn commands_are_written_as_arrays() {
        let mut commands = Vec::new();
        append(&mut commands, &[b"WAIT", b"1", b""]);
        append(&mut commands, &[b"PING"]);
        let text = "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(str::from_utf8(&commands), Ok(text));
    }

    #[test]
    fn answers_are_read() {
        let bytes = |text: &str| Answer::Bytes(text.into());
        let one = Answer::Array(vec![Answer::Number(1)]);
        for (text, expected) in [
            ("+OK\r\n", Answer::Status("OK".into())),
            ("-MOVED 5 a:7\r\n", Answer::Error("MOVED 5 a:7".into())),
            ("-\r\n", Answer::Error(String::new())),
            (":-7\r\n", Answer::Number(-7)),
            ("$-1\r\n", Answer::Nothing),
            ("$0\r\n\r\n", bytes("")),
            ("$4\r\na\r\nb\r\n", bytes("a\r\nb")),
            ("*-1\r\n", Answer::Nothing),
            ("*0\r\n", Answer::Array(Vec::new())),
            (
                "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
                Answer::Array(vec![one, bytes("x")]),
            ),
        ] {
            assert_eq!(read(text, 4096).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_answer_or_too_much_is_an_error() {
        let deep = "*1\r\n".repeat(100_000);
        let long = format!("+{}\r\n", "x".repeat(5000));
        let many = format!("*1000\r\n{}", ":1\r\n".repeat(1000));
        for text in [
            "$9999999999\r\n",
            "$9223372036854775807\r\n",
            "*9999999999\r\n",
            "*9223372036854775807\r\n:1\r\n",
            "$-2\r\n",
            "*-2\r\n",
            "$5000\r\n",
            "$x\r\n",
            ":\r\n",
            ":99999999999999999999\r\n",
            "$1\r\nxyz\r\n",
            // These are of RESP3, which nobody has asked for.
            "%1\r\n+a\r\n+b\r\n",
            ">1\r\n+a\r\n",
            "=-1\r\n",
            "\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
            "+OK\n",
            "+OK",
            "",
            &deep,
            &long,
            &many,
        ] {
            let error = read(text, 4096).unwrap_err();
            let kinds = [ErrorKind::InvalidData, ErrorKind::UnexpectedEof];
            assert!(kinds.contains(&error.kind()), "{text:.20?}: {error:?}");
        }
    }

    #[test]
    fn errors_have_nothing_that_changes_a_terminal() {
        let error = read("-ERR \x1b[2J\x07no\r\n", 4096).unwrap();
        assert_eq!(error, Answer::Error("ERR  [2J no".into()));
    }
}
