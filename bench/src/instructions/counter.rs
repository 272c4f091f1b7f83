// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the plugin in QEMU says.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Bytes of a place and its count.
const PAIR: usize = 16;

/// Instructions that a guest has executed.
pub(super) struct Counter {
    socket: PathBuf,
    /// Whether it is also asked where they were.
    tells_where: bool,
}

/// Some instructions, and how many of them were where, if that was asked for: by the
/// addresses that the plugin tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spent {
    pub(super) count: f64,
    pub(super) places: HashMap<u64, f64>,
}

impl Counter {
    /// That of the plugin which listens at `socket`.
    pub(super) fn new(socket: PathBuf, tells_where: bool) -> Self {
        Self {
            socket,
            tells_where,
        }
    }

    /// Those so far.
    fn now(&self) -> Result<Spent> {
        self.ask().context("the plugin in QEMU does not answer")
    }

    fn ask(&self) -> io::Result<Spent> {
        let mut stream = UnixStream::connect(&self.socket)?;
        let mut count = [0; 8];
        stream.read_exact(&mut count)?;
        let mut pairs = Vec::new();
        if self.tells_where {
            stream.write_all(b"p")?;
            stream.read_to_end(&mut pairs)?;
        }
        let (pairs, _) = pairs.as_chunks::<PAIR>();
        Ok(Spent {
            count: u64::from_le_bytes(count) as f64,
            places: pairs.iter().map(pair).collect(),
        })
    }

    /// Those while `work` is done, and what it gives.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(Spent, T)> {
        let before = self.now()?;
        let done = work()?;
        Ok((self.now()?.without(&before), done))
    }
}

fn pair(bytes: &[u8; PAIR]) -> (u64, f64) {
    match bytes.as_chunks() {
        ([place, count], _) => (
            u64::from_le_bytes(*place),
            u64::from_le_bytes(*count) as f64,
        ),
        _ => (0, 0.0),
    }
}

impl Spent {
    /// What is left without others of them; no place has fewer than none.
    pub(super) fn without(mut self, others: &Self) -> Self {
        self.count = (self.count - others.count).max(0.0);
        for (place, count) in &mut self.places {
            let other = others.places.get(place).copied().unwrap_or(0.0);
            *count = (*count - other).max(0.0);
        }
        self
    }

    /// For each of so many pages.
    pub(super) fn each(mut self, pages: f64) -> Self {
        self.count /= pages;
        self.places.values_mut().for_each(|count| *count /= pages);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_plugin_tells_how_many_and_where() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let plugin = UnixListener::bind(&socket).unwrap();
        let told = std::thread::spawn(move || {
            for count in [100u64, 400] {
                let (mut stream, _) = plugin.accept().unwrap();
                stream.write_all(&count.to_le_bytes()).unwrap();
                stream.read_exact(&mut [0]).unwrap();
                for number in [1 << 63, count / 2, 0, count / 2] {
                    stream.write_all(&number.to_le_bytes()).unwrap();
                }
            }
        });
        let (spent, done) = Counter::new(socket, true).during(|| Ok(7)).unwrap();
        told.join().unwrap();
        assert_eq!((spent.count, done), (300.0, 7));
        let each = spent.each(10.0);
        assert_eq!(each.count, 30.0);
        assert_eq!(each.places, HashMap::from([(1 << 63, 15.0), (0, 15.0)]));
    }
}
