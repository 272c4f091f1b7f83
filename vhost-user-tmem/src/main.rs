// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtio-tmem daemon: one store, many virtual machines.

use std::process::ExitCode;

use tmem_cli::{exit, logging};
use tmem_host::heap;
use vhost_user_tmem::confine::{self, Role};
use vhost_user_tmem::{blame, cli, daemon, panics};

fn main() -> ExitCode {
    let options = match cli::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(exit) => return exit.print(),
    };
    if options.print_capabilities {
        println!("{}", cli::CAPABILITIES);
        return ExitCode::SUCCESS;
    }
    heap::share();
    panics::end();
    if let Err(error) = confine::begin(options.seccomp, blame::count) {
        eprintln!(
            "vhost-user-tmem: cannot filter system calls: {error}; --seccomp off does without"
        );
        return ExitCode::FAILURE;
    }
    let confined = || confine::enter(Role::Log);
    let _logging = match logging::start_apart(options.log_level, confined) {
        Ok(logging) => logging,
        Err(error) => {
            eprintln!("vhost-user-tmem: cannot start a thread for the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = match &options.holder {
        Some(path) => daemon::hold(path),
        None => daemon::run(&options),
    };
    let result = result.map(|()| ExitCode::SUCCESS);
    exit::code("vhost-user-tmem", result)
}
