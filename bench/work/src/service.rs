// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A heap that is used when somebody asks, over a unix socket.

use crate::heap::Heap;
use crate::heap::Use;
use anyhow::Context;
use anyhow::Result;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Fills `mib` MiB, then listens at `socket`, and uses the heap for each who
/// connects.
///
/// # Errors
/// The socket cannot be made.
pub fn run(mib: usize, seed: u64, socket: &Path) -> Result<()> {
    let mut heap = Heap::fill(mib, seed);
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen at {}", socket.display()))?;
    loop {
        let (mut stream, _) = listener.accept().context("cannot accept a connection")?;
        let text = serde_json::to_string(&heap.use_all())?;
        // Who asked may be gone.
        let _ = stream.write_all(text.as_bytes());
    }
}

/// Has the heap behind `socket` used.
///
/// # Errors
/// Nobody listens there, or it ends before it answers.
pub fn ask(socket: &Path) -> Result<Use> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("no heap at {}", socket.display()))?;
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .context("the heap does not answer")?;
    serde_json::from_str(&text).context("the heap is gone")
}
