// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The status for people.

use std::fmt::Write;

use tmem_cli::size;

use super::{Report, kind, share, state};
use crate::terms::PAGE_BYTES;
use crate::uapi::{Filter, Status};

/// The first columns are text, to the left; the rest are numbers.
const TEXT_COLUMNS: usize = 3;

const HEADINGS: [&str; 15] = [
    "DEVICE",
    "KIND",
    "STATE",
    "PAGES",
    "SIZE",
    "HITS",
    "MISSES",
    "RATE",
    "PUTS",
    "REFUSED",
    "SKIPPED",
    "INVALID",
    "VANISHED",
    "WRITEBACK",
    "ERRORS",
];

/// The whole status.
pub(super) fn text(report: &Report) -> String {
    let mut text = host(&report.status);
    for warning in &report.warnings {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "warning    {warning}");
    }
    for (name, filter) in &report.filters {
        if let Some((share, usage)) = share(filter) {
            let verified = match filter.is_verified {
                0 => "",
                _ => ", verified",
            };
            let usage = explained(usage);
            let _ = writeln!(text, "share      {share} on {name}: {usage}{verified}");
        }
    }
    if report.filters.is_empty() {
        text += "Nothing is attached; `tmemctl attach --all` does that.\n";
        return text;
    }
    text.push('\n');
    let rows: Vec<_> = std::iter::once(HEADINGS.map(str::to_string))
        .chain(
            report
                .filters
                .iter()
                .map(|(name, filter)| row(name, filter)),
        )
        .collect();
    text += &aligned(&rows);
    text
}

/// What has become of a share, in a few words.
fn explained(usage: &str) -> &str {
    match usage {
        "waiting" => "not used, because the host does not give it; it is asked now and then",
        "used" => "used",
        "written" => "not used any more, because the disk was written to",
        "changed" => {
            "not used any more, because the disk is another one, or was not used for a moment"
        }
        other => other,
    }
}

/// What the host gives.
fn host(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = if status.is_attached == 0 {
        writeln!(text, "host       not there: everything goes to the disks")
    } else {
        writeln!(
            text,
            "host       there, holds {} of {}",
            size::show(status.held_bytes),
            size::show(status.quota_bytes)
        )
    };
    let bytes = status.swap_pages.saturating_mul(PAGE_BYTES);
    let _ = writeln!(
        text,
        "swap disk  {} pages ({})",
        status.swap_pages,
        size::show(bytes)
    );
    text
}

fn row(name: &str, filter: &Filter) -> [String; HEADINGS.len()] {
    [
        name.into(),
        kind(filter).into(),
        state(filter).into(),
        filter.pages.to_string(),
        size::show(filter.pages.saturating_mul(PAGE_BYTES)),
        filter.hits.to_string(),
        filter.misses.to_string(),
        rate(filter),
        filter.puts.to_string(),
        filter.refused.to_string(),
        filter.skipped.to_string(),
        filter.invalidates.to_string(),
        filter.vanished.to_string(),
        filter.written_back.to_string(),
        filter.errors.to_string(),
    ]
}

/// How many of the pages that were read came from the host.
fn rate(filter: &Filter) -> String {
    let hits = u128::from(filter.hits);
    let reads = hits + u128::from(filter.misses);
    match (hits * 100).checked_div(reads) {
        Some(percent) => format!("{percent} %"),
        None => "-".into(),
    }
}

/// Puts rows below each other, each column as wide as it must be.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let _ = if column < TEXT_COLUMNS {
                write!(text, "{gap}{cell:<width$}")
            } else {
                write!(text, "{gap}{cell:>width$}")
            };
        }
        text.push('\n');
    }
    text
}
