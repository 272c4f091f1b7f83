// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a command that takes long has done so far: one line of the terminal, drawn
//! again and again.

use std::io::{self, IsTerminal, Write};

/// Whether anybody sees it.
pub(crate) fn is_shown() -> bool {
    io::stderr().is_terminal()
}

/// Draws `line` in the place of the last one; an empty one at the end. A terminal
/// that is gone is no reason to stop.
pub(crate) fn draw(line: &str) {
    let mut terminal = io::stderr().lock();
    // To the line's start, and nothing on it.
    let _ = write!(terminal, "\r\x1b[K{line}");
    let _ = terminal.flush();
}
