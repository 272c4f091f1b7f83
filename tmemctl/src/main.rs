// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl`: operates transcendent memory, in the guest and on the host.

use std::process::ExitCode;

use tmem_cli::{args, exit};
use tmemctl::cli::Options;

fn main() -> ExitCode {
    let options: Options = match args::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(exit) => return exit.print(),
    };
    exit::code("tmemctl", tmemctl::run(&options))
}
