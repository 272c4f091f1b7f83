// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl` as a library: what its program and the maker of its man page
//! share.
//!
//! [`cli`] says what is wanted. `attach`, `detach` and `status` do it with a
//! `module::Module`, which is `/dev/tmem` or, in tests, a fake one; `system`
//! reads what there is to attach. `give_back` and `reclaim` have the kernel's own
//! parts do the work: free page reporting, DAMON, memory.reclaim. `host` is the other side:
//! it speaks to the daemon.

pub mod cli;

mod attach;
mod detach;
mod disk;
mod failure;
mod give_back;
mod host;
mod module;
mod progress;
mod pull;
mod reclaim;
mod share;
mod status;
mod swap_check;
mod system;
mod terms;
#[cfg(test)]
mod testing;
#[expect(
    clippy::cast_possible_truncation,
    dead_code,
    unreachable_pub,
    reason = "shared with the module, which uses the rest"
)]
mod uapi;
mod verity;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

use cli::{Command, Options};
use module::Kernel;
use system::System;

/// Does what the options say.
///
/// # Errors
/// A sentence that says why it cannot be done, and what to do about it.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    let complete = match &options.command {
        Command::Attach(wanted) => attach::run(wanted, &mut out)?,
        Command::Detach(wanted) => detach::run(wanted, &mut out)?,
        Command::Status(wanted) => {
            status::run(&Kernel::open()?, wanted, &mut out)?;
            true
        }
        Command::SwapCheck => {
            swap_check::run(&Kernel::open()?, &System::read()?)?;
            true
        }
        Command::GiveBack(wanted) => {
            give_back::run(&wanted.action, &mut out)?;
            true
        }
        Command::Reclaim(wanted) => reclaim::run(wanted, &mut out)?,
        Command::Pull(wanted) => pull::run(wanted, &mut out)?,
        Command::Vm(wanted) => {
            host::vm(wanted, &mut out)?;
            true
        }
        Command::Share(wanted) => {
            host::share(wanted, &mut out)?;
            true
        }
        Command::Freeable(wanted) => {
            host::freeable(wanted, &mut out)?;
            true
        }
        Command::Tiers(wanted) => {
            host::tiers(wanted, &mut out)?;
            true
        }
        Command::Top(wanted) => {
            // It draws by itself.
            drop(out);
            host::top(wanted)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    out.flush()?;
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Says what is to be known of what was done.
fn warn(text: &str) {
    eprintln!("tmemctl: warning: {text}");
}

/// Says what could not be done; the rest goes on.
fn complain(error: &anyhow::Error) {
    eprintln!("tmemctl: {error:#}");
}
