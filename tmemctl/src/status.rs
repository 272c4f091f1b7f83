// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl status`.

mod json;
mod table;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::cli;
use crate::disk::{self, Number};
use crate::module::Module;
use crate::share::ShareId;
use crate::system::{self, Disks, System};
use crate::terms::kind_name;
use crate::uapi::{Filter, Kind, ShareUse, State, Status};

/// What there is to show.
struct Report {
    status: Status,
    /// With the names of their devices.
    filters: Vec<(String, Filter)>,
    /// What is not as it should be.
    warnings: Vec<String>,
}

/// Shows the module and its filters.
///
/// # Errors
/// When the module does not answer, and when a device was asked for that is
/// not attached.
pub(crate) fn run(module: &impl Module, wanted: &cli::Status, out: &mut impl Write) -> Result<()> {
    let device = wanted.device.as_deref().map(disk::named).transpose()?;
    loop {
        let mut report = report(module, device)?;
        // What cannot be read is not judged.
        if let Ok(system) = System::read() {
            let disks = system::Kernel(Path::new(disk::SYS));
            report.judge(&system, &disks);
        }
        if let (Some(name), []) = (&wanted.device, &*report.filters) {
            bail!("{name} is not attached; `tmemctl attach {name}` does that");
        }
        if wanted.watch.is_some() && !wanted.json && io::stdout().is_terminal() {
            // To the top of an empty screen.
            write!(out, "\x1b[H\x1b[2J")?;
        }
        if wanted.json {
            json::write(&report, out)?;
        } else {
            write!(out, "{}", table::text(&report))?;
        }
        out.flush()?;
        let Some(interval) = wanted.watch else {
            return Ok(());
        };
        thread::sleep(interval);
    }
}

/// Asks the module; of its filters, about that of `device` only, if given.
fn report(module: &impl Module, device: Option<Number>) -> Result<Report> {
    let status = module.status().context("the module does not answer")?;
    let filters = module
        .filters()?
        .into_iter()
        .filter(|filter| device.is_none_or(|device| device == Number::of(filter)))
        .map(|filter| {
            let name = disk::name(Path::new(disk::SYS), Number::of(&filter));
            (name, filter)
        })
        .collect();
    Ok(Report {
        status,
        filters,
        warnings: Vec::new(),
    })
}

impl Report {
    /// Looks for what is not as it should be.
    fn judge(&mut self, system: &System, disks: &impl Disks) {
        self.warnings
            .extend(system.swap_warning(self.status.quota_bytes));
        for (name, filter) in &self.filters {
            if let Some(kind) = Kind::from_number(filter.kind) {
                let device = Number::of(filter);
                self.warnings
                    .extend(system.warnings(device, name, kind, disks));
            }
        }
    }
}

/// The kind of a filter, for people and programs.
fn kind(filter: &Filter) -> &'static str {
    Kind::from_number(filter.kind).map_or("unknown", kind_name)
}

/// The share of a filter, if it has one, and what becomes of it.
fn share(filter: &Filter) -> Option<(ShareId, &'static str)> {
    let word = match ShareUse::from_number(filter.share_use) {
        Some(ShareUse::Waiting) => "waiting",
        Some(ShareUse::Used) => "used",
        Some(ShareUse::Written) => "written",
        Some(ShareUse::Unknown) => "changed",
        None if filter.share_use == 0 => return None,
        None => "unknown",
    };
    Some((ShareId(filter.share), word))
}

/// The state of a filter, for people and programs.
fn state(filter: &Filter) -> &'static str {
    let is_over = matches!(
        ShareUse::from_number(filter.share_use),
        Some(ShareUse::Written | ShareUse::Unknown)
    );
    match State::from_number(filter.state) {
        Some(State::Waiting | State::Active) if is_over => "over",
        other => known_state(other),
    }
}

fn known_state(state: Option<State>) -> &'static str {
    match state {
        Some(State::Waiting) => "waiting",
        Some(State::Active) => "active",
        Some(State::Detaching) => "detaching",
        Some(State::Gone) => "gone",
        None => "unknown",
    }
}

#[cfg(test)]
mod tests;
