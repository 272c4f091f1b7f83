// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmem-vmm`: runs a virtual machine on the terminal.

use std::process::ExitCode;

use tmem_host::{cli, logging};
use tmem_vmm::cli::Options;

fn main() -> ExitCode {
    let options: Options = match cli::parse_checked(std::env::args_os(), Options::check) {
        Ok(options) => options,
        Err(exit) => return exit.print(),
    };
    logging::start(options.log_level);
    match tmem_vmm::run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tmem-vmm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
