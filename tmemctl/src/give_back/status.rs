// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl give-back status`.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use tmem_cli::size;

use super::Places;
use super::cold::{Cold, Settings};
use super::damon::Done;
use super::pressure::{self, Pressure, percent};
use crate::cli::GiveBackStatus;
use crate::failure;
use crate::module::Module;
use crate::uapi::GivenBack;

/// What there is to show.
struct Report {
    given: GivenBack,
    cold: Option<(Settings, Option<Done>)>,
    pressure: Option<Pressure>,
}

/// Shows what was given back.
///
/// # Errors
/// When the module does not answer.
pub(super) fn show(
    module: &impl Module,
    places: &Places,
    options: &GiveBackStatus,
    out: &mut impl Write,
) -> Result<()> {
    let report = Report {
        given: module.given_back().map_err(failure::give_back)?,
        cold: Cold::new(places).status(),
        pressure: pressure::read(&places.proc),
    };
    if options.json {
        serde_json::to_writer(&mut *out, &document(&report))?;
        writeln!(out)?;
    } else {
        write!(out, "{}", text(&report))?;
    }
    Ok(())
}

impl Report {
    /// Bytes that were given back and are backed again, at most: memory that the
    /// guest has never touched counts as given, too.
    fn taken_again(&self) -> u64 {
        let given = self.given.given_bytes;
        let absent = self.given.memory_bytes - self.given.backed_bytes.min(self.given.memory_bytes);
        given.saturating_sub(absent)
    }
}

fn text(report: &Report) -> String {
    let given = &report.given;
    let free = match (given.is_on, given.is_able) {
        (0, _) => "is kept; `tmemctl give-back on` gives it back".into(),
        (_, 0) => "is kept: the host's device is not there, or takes none".into(),
        _ => format!("is given back: {} so far", size::show(given.given_bytes)),
    };
    let mut lines = vec![("free memory", free)];
    if given.refused_bytes > 0 {
        let refused = size::show(given.refused_bytes);
        lines.push(("refused", format!("{refused}, which the host cannot take")));
    }
    if given.memory_bytes > 0 {
        let (backed, memory) = (given.backed_bytes, given.memory_bytes);
        let host = format!("backs {} of {}", size::show(backed), size::show(memory));
        lines.push(("host", host));
        let again = size::show(report.taken_again());
        lines.push(("taken again", format!("at most {again}")));
    }
    lines.push(("cold memory", cold(report)));
    if let Some(pressure) = &report.pressure {
        let goal = report
            .cold
            .as_ref()
            .map(|(settings, _)| format!("; goal {}", percent(settings.pressure)));
        let goal = goal.unwrap_or_default();
        let (short, long) = (&pressure.last_10_s, &pressure.last_60_s);
        lines.push((
            "pressure",
            format!("{short} % of 10 s, {long} % of 60 s{goal}"),
        ));
    }
    let lines = lines.into_iter();
    lines
        .map(|(name, value)| format!("{name:<11}  {value}\n"))
        .collect()
}

fn cold(report: &Report) -> String {
    let Some((settings, done)) = &report.cold else {
        return "is not looked for".into();
    };
    let Some(done) = done else {
        return "was looked for, but DAMON has stopped; `tmemctl give-back on` starts it".into();
    };
    format!(
        "not used for {} s; moved out {} of {} found, now up to {} a second",
        settings.cold_s,
        size::show(done.moved_bytes),
        size::show(done.cold_bytes),
        size::show(done.rate),
    )
}

/// The status for programs. Keys are added, never changed.
#[derive(Serialize)]
struct Document<'a> {
    is_on: bool,
    is_able: bool,
    given_bytes: u64,
    refused_bytes: u64,
    requests: u64,
    postponed: u64,
    memory_bytes: u64,
    backed_bytes: u64,
    taken_again_bytes: u64,
    cold: Option<ColdDocument>,
    pressure: Option<PressureDocument<'a>>,
}

#[derive(Serialize)]
struct ColdDocument {
    seconds: u64,
    pressure_millionths: u64,
    is_running: bool,
    found_bytes: u64,
    moved_bytes: u64,
    rate_bytes: u64,
}

#[derive(Serialize)]
struct PressureDocument<'a> {
    percent_10_s: &'a str,
    percent_60_s: &'a str,
    total_us: u64,
}

fn document(report: &Report) -> Document<'_> {
    let given = &report.given;
    Document {
        is_on: given.is_on != 0,
        is_able: given.is_able != 0,
        given_bytes: given.given_bytes,
        refused_bytes: given.refused_bytes,
        requests: given.requests,
        postponed: given.postponed,
        memory_bytes: given.memory_bytes,
        backed_bytes: given.backed_bytes,
        taken_again_bytes: report.taken_again(),
        cold: report.cold.as_ref().map(|(settings, done)| {
            let is_running = done.is_some();
            let done = done.unwrap_or_default();
            ColdDocument {
                seconds: settings.cold_s,
                pressure_millionths: settings.pressure,
                is_running,
                found_bytes: done.cold_bytes,
                moved_bytes: done.moved_bytes,
                rate_bytes: done.rate,
            }
        }),
        pressure: report.pressure.as_ref().map(|pressure| PressureDocument {
            percent_10_s: &pressure.last_10_s,
            percent_60_s: &pressure.last_60_s,
            total_us: pressure.total_us,
        }),
    }
}
