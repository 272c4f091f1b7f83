// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The status for programs: one JSON object on one line. Keys are added, never
//! changed.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::{Report, kind, share, state};
use crate::terms::PAGE_BYTES;

#[derive(Serialize)]
struct Document<'a> {
    /// Version of the module's interface.
    version: u32,
    device: Device,
    swap_disk: SwapDisk,
    filters: Vec<Filter<'a>>,
    warnings: &'a [String],
}

/// The host's device.
#[derive(Serialize)]
struct Device {
    is_attached: bool,
    quota_bytes: u64,
    held_bytes: u64,
}

/// `/dev/tmem0`.
#[derive(Serialize)]
struct SwapDisk {
    pages: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Filter<'a> {
    device: &'a str,
    major: u32,
    minor: u32,
    kind: &'static str,
    state: &'static str,
    pages: u64,
    bytes: u64,
    hits: u64,
    misses: u64,
    puts: u64,
    refused: u64,
    skipped: u64,
    invalidates: u64,
    vanished: u64,
    written_back: u64,
    errors: u64,
    evicted: u64,
    changed: u64,
    known_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<Share>,
}

/// What a filter of the kind `shared` has.
#[derive(Serialize)]
struct Share {
    uuid: String,
    #[serde(rename = "use")]
    usage: &'static str,
    is_verified: bool,
    /// Pages.
    nameless: u64,
}

/// Writes the report as a line of JSON.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(report: &Report, out: &mut impl Write) -> Result<()> {
    let status = &report.status;
    let document = Document {
        version: status.version,
        device: Device {
            is_attached: status.is_attached != 0,
            quota_bytes: status.quota_bytes,
            held_bytes: status.held_bytes,
        },
        swap_disk: SwapDisk {
            pages: status.swap_pages,
            bytes: status.swap_pages.saturating_mul(PAGE_BYTES),
        },
        filters: report
            .filters
            .iter()
            .map(|(device, filter)| Filter {
                device,
                major: filter.major,
                minor: filter.minor,
                kind: kind(filter),
                state: state(filter),
                pages: filter.pages,
                bytes: filter.pages.saturating_mul(PAGE_BYTES),
                hits: filter.hits,
                misses: filter.misses,
                puts: filter.puts,
                refused: filter.refused,
                skipped: filter.skipped,
                invalidates: filter.invalidates,
                vanished: filter.vanished,
                written_back: filter.written_back,
                errors: filter.errors,
                evicted: filter.evicted,
                changed: filter.changed,
                known_bytes: filter.known_bytes,
                share: share(filter).map(|(share, usage)| Share {
                    uuid: share.to_string(),
                    usage,
                    is_verified: filter.is_verified != 0,
                    nameless: filter.nameless,
                }),
            })
            .collect(),
        warnings: &report.warnings,
    };
    serde_json::to_writer(&mut *out, &document)?;
    writeln!(out)?;
    Ok(())
}
