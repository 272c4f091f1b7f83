// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A program that reads a disk, and writes to its buffer while the disk fills
//! it: what it makes of the buffer must not become what others read.

use crate::device;
use crate::files::map::Map;
use anyhow::Context;
use anyhow::Result;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Bytes read at a time.
const LENGTH: usize = 128 << 10;

/// What is scribbled.
static SCRIBBLE: [u8; LENGTH] = [0xee; LENGTH];

/// Reads `device`, which it does not write to, again and again for `time`.
/// Gives how many bytes were read.
///
/// # Errors
/// The device cannot be read, or there is no memory.
pub fn run(device: &Path, time: Duration) -> Result<u64> {
    let disk = device::open_to_read(device)?;
    let size = device::size(&disk)?;
    let memory = memory()?;
    // The same memory twice: as a buffer, and as a file that others write to.
    let mut buffer = Map::new(&memory, 0, LENGTH).context("no memory for a buffer")?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scribbler = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                memory.write_all_at(&SCRIBBLE, 0)?;
            }
            Ok::<(), std::io::Error>(())
        });
        let read = read(&disk, size, &mut buffer, time);
        is_over.store(true, Ordering::Relaxed);
        let scribbled = scribbler.join().unwrap_or(Ok(()));
        scribbled.context("cannot write to the buffer's memory")?;
        read
    })
}

/// A file that is memory.
fn memory() -> Result<File> {
    let file = rustix::fs::memfd_create("buffer", rustix::fs::MemfdFlags::CLOEXEC);
    let file = File::from(file.context("no memory for a buffer")?);
    file.set_len(LENGTH as u64)
        .context("no memory for a buffer")?;
    Ok(file)
}

fn read(disk: &File, size: u64, buffer: &mut Map, time: Duration) -> Result<u64> {
    let start = Instant::now();
    let mut read = 0;
    while start.elapsed() < time {
        for at in (0..size.saturating_sub(LENGTH as u64)).step_by(LENGTH) {
            disk.read_exact_at(buffer.bytes(), at)
                .with_context(|| format!("cannot read at {at}"))?;
            read += LENGTH as u64;
        }
    }
    Ok(read)
}
