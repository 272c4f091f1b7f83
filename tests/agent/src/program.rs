// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How programs are started.

use std::process::Command;

/// A program to be started, as a shell would find it.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}
