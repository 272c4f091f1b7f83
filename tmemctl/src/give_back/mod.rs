// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl give-back`: free page reporting by the module, and DAMON to find what
//! can be made free.

mod cold;
mod damon;
mod memory;
mod pressure;
mod status;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cli::{GiveBackAction, GiveBackOn};
use crate::complain;
use crate::failure;
use crate::module::{Kernel, Module};
use cold::Cold;

/// Parameters of the kernel's free page reporting.
const REPORTING: &str = "module/page_reporting/parameters";

/// Where the kernel describes itself, and where programs keep what is true until
/// the next boot.
struct Places {
    sys: PathBuf,
    proc: PathBuf,
    run: PathBuf,
}

impl Places {
    fn system() -> Self {
        Self {
            sys: "/sys".into(),
            proc: "/proc".into(),
            run: "/run".into(),
        }
    }
}

/// Whether cold memory is moved out.
pub(crate) fn moves_out() -> bool {
    let places = Places::system();
    Cold::new(&places)
        .status()
        .is_some_and(|(_, done)| done.is_some())
}

/// Does what is wanted.
///
/// # Errors
/// A sentence with the way out.
pub(crate) fn run(wanted: &GiveBackAction, out: &mut impl Write) -> Result<()> {
    let module = Kernel::open()?;
    let places = Places::system();
    match wanted {
        GiveBackAction::On(options) => on(&module, &places, options, out),
        GiveBackAction::Off => off(&module, &places, out),
        GiveBackAction::Status(options) => status::show(&module, &places, options, out),
    }
}

fn on(
    module: &impl Module,
    places: &Places,
    options: &GiveBackOn,
    out: &mut impl Write,
) -> Result<()> {
    let parameters = places.sys.join(REPORTING);
    if let Some(order) = options.order {
        set(&parameters.join("page_reporting_order"), order)?;
    }
    if let Some(delay) = options.delay {
        set(&parameters.join("page_reporting_delay_ms"), delay)?;
    }
    module.give_back().map_err(failure::give_back)?;
    writeln!(out, "Free memory is given back to the host.")?;
    let cold = Cold::new(places);
    if options.free_only {
        return cold.end();
    }
    // What is free is given back in any case.
    cold.begin(options)
        .context("free memory is given back, but cold memory is not looked for")?;
    writeln!(
        out,
        "Memory that was not used for {} s is moved out, while tasks wait for memory less than \
         {} of the time.",
        options.cold,
        pressure::percent(options.pressure.0),
    )?;
    if module.given_back().is_ok_and(|given| given.is_able == 0) {
        writeln!(
            out,
            "The host's device is not there, or takes no memory back: nothing is given back for now."
        )?;
    }
    Ok(())
}

fn off(module: &impl Module, places: &Places, out: &mut impl Write) -> Result<()> {
    if let Err(error) = Cold::new(places).end() {
        complain(&error);
    }
    module.keep().map_err(failure::give_back)?;
    writeln!(out, "Nothing is given back any more.")?;
    Ok(())
}

/// Writes a number to a file of the kernel's.
fn set(file: &Path, value: impl ToString) -> Result<()> {
    let value = value.to_string();
    std::fs::write(file, &value)
        .with_context(|| format!("the kernel does not take {value} in {}", file.display()))
}

#[cfg(test)]
mod tests;
