// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The values of `--serial`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What a serial port is to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This process's stdin and stdout.
    Tty,
    /// Nothing: no input, and output is gone.
    Null,
    /// Output is appended to this file; no input.
    File(PathBuf),
    /// A character device that exists.
    Path(PathBuf),
    /// A unix stream socket on which somebody listens.
    Socket(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, path) = match text.split_once('=') {
            Some((kind, path)) => (kind, Some(path)),
            None => (text, None),
        };
        match (kind, path) {
            ("tty", None) => Ok(Self::Tty),
            ("null", None) => Ok(Self::Null),
            ("file" | "path" | "socket", None | Some("")) => {
                Err(format!("'{text}' names no path; write {kind}=PATH"))
            }
            ("file", Some(path)) => Ok(Self::File(path.into())),
            ("path", Some(path)) => Ok(Self::Path(path.into())),
            ("socket", Some(path)) => Ok(Self::Socket(path.into())),
            _ => Err(format!(
                "'{text}' is nothing for a serial port; \
                 write tty, null, file=PATH, path=PATH or socket=PATH"
            )),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tty => f.write_str("tty"),
            Self::Null => f.write_str("null"),
            Self::File(path) => write!(f, "file={}", path.display()),
            Self::Path(path) => write!(f, "path={}", path.display()),
            Self::Socket(path) => write!(f, "socket={}", path.display()),
        }
    }
}

/// Checks the ports of one machine, COM1 first.
///
/// # Errors
/// A sentence that says what cannot be.
pub fn check(targets: &[Target]) -> Result<(), String> {
    if targets.len() > 2 {
        return Err(format!(
            "{} serial ports are too many; there are two",
            targets.len()
        ));
    }
    match targets {
        [Target::Tty, Target::Tty] => {
            Err("only one serial port can be on the terminal; connect the other elsewhere".into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        for (text, target) in [
            ("tty", Target::Tty),
            ("null", Target::Null),
            ("file=/tmp/log", Target::File("/tmp/log".into())),
            ("path=/dev/ttyS7", Target::Path("/dev/ttyS7".into())),
            ("socket=a=b", Target::Socket("a=b".into())),
        ] {
            assert_eq!(text.parse(), Ok(target.clone()));
            assert_eq!(target.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_understood_is_answered_with_what_would_be() {
        for (text, hint) in [
            ("", "tty, null, file=PATH"),
            ("stdio", "tty, null, file=PATH"),
            ("file:/tmp/log", "tty, null, file=PATH"),
            ("TTY", "tty, null, file=PATH"),
            ("tty=/dev/tty", "tty, null, file=PATH"),
            ("null=", "tty, null, file=PATH"),
            ("file", "write file=PATH"),
            ("socket=", "write socket=PATH"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(hint), "{error}");
            assert!(error.contains(&format!("'{text}'")), "{error}");
        }
    }

    #[test]
    fn there_are_two_ports_and_one_terminal() {
        let null = || Target::Null;
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[null(), Target::Tty]), Ok(()));
        assert!(check(&[Target::Tty, Target::Tty]).is_err());
        assert!(check(&[null(), null(), null()]).is_err());
    }
}
