// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the plugin in QEMU says.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Instructions that a guest has executed.
pub(super) struct Counter {
    socket: PathBuf,
}

impl Counter {
    /// That of the plugin which listens at `socket`.
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Those so far.
    pub(super) fn now(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        UnixStream::connect(&self.socket)
            .and_then(|mut stream| stream.read_exact(&mut bytes))
            .context("the plugin in QEMU does not answer")?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Those while `work` is done, and what it gives.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
        let before = self.now()?;
        let done = work()?;
        Ok((self.now()?.saturating_sub(before), done))
    }
}
