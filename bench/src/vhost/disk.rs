// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon's plain disk beside QEMU's storage daemon, and beside the native device.

use super::{Measured, PEER, median_of};
use crate::report::Report;

/// Pages per second beside the storage daemon's, at least, at depths above 1.
const RATE: f64 = 3.0;

/// Latency beside the storage daemon's, at most, at depth 1.
const LATENCY: f64 = 0.6;

/// What the native device is ahead of it, at most.
const NATIVE: f64 = 1.2;

/// Says how the disk did at this depth.
pub(super) fn say(
    depth: usize,
    disk: &Measured,
    native: &Measured,
    peer: Option<&Measured>,
    report: &mut Report,
) {
    let rows = |of: &Measured| {
        [
            (median_of(&of.write_rate), of.write_latency.median()),
            (median_of(&of.read_rate), of.read_latency.median()),
        ]
    };
    let peers = peer.map(rows);
    let beside = rows(native).into_iter().zip(["put", "get"]);
    let all = rows(disk).into_iter().zip(["write", "read"]).zip(beside);
    for (row, ((own, name), (native, native_name))) in all.enumerate() {
        let name = format!("depth {depth}: the plain disk's {name}");
        let (rate, latency) = own;
        let (rates, latencies) = (
            format!("{name}, pages per second"),
            format!("{name}, latency median"),
        );
        report.against(rates.clone(), rate, "1/s", native_name, native.0);
        report.against(latencies.clone(), latency, "us", native_name, native.1);
        let of_native = format!("pages per second of {native_name} beside {name}");
        report.target_at_most(&of_native, native.0 / rate, NATIVE);
        let peer = peers.as_ref().and_then(|rows| rows.get(row));
        let Some(((other_rate, other_latency), other)) = peer.zip(PEER.get(row)) else {
            continue;
        };
        report.against(rates, rate, "1/s", *other, *other_rate);
        report.against(latencies, latency, "us", *other, *other_latency);
        if depth > 1 {
            let what = format!("{name}, pages per second beside {other}");
            report.target_at_least(&what, rate / other_rate, RATE);
        } else {
            let what = format!("{name}, latency beside {other}");
            report.target_at_most(&what, latency / other_latency, LATENCY);
        }
    }
}
