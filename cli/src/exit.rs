// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Exit codes. 0 and 1 are those of every program; a program may have more of its
//! own above [`USAGE`].

use std::process::ExitCode;

use anyhow::Result;

/// The command line is wrong.
pub const USAGE: u8 = 2;

/// The exit code of `program` with this `result`; an error is printed.
pub fn code(program: &str, result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("{program}: {error:#}");
        ExitCode::FAILURE
    })
}
