// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmem-vmm`: runs a virtual machine on the terminal.

use std::process::ExitCode;

use tmem_cli::{args, exit, logging};
use tmem_vmm::cli::Options;

fn main() -> ExitCode {
    let options: Options = match args::parse_checked(std::env::args_os(), Options::check) {
        Ok(options) => options,
        Err(exit) => return exit.print(),
    };
    logging::start(options.log_level);
    exit::code("tmem-vmm", tmem_vmm::run(&options))
}
