// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Looking into a file before it is used.

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

/// Fills `buffer` with what `file` has from byte `at` on, as far as it goes.
///
/// # Errors
/// What the system says.
pub fn peek<'b>(file: &impl FileExt, buffer: &'b mut [u8], at: u64) -> io::Result<&'b mut [u8]> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buffer.get_mut(..done).unwrap_or_default())
}
