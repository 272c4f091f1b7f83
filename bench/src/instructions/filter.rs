// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Blocks read through filters.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::counter::Spent;
use super::{Counted, Row, say};
use crate::report::Report;
use crate::samples::median;

/// The disk.
const DEVICE: &str = "/dev/vda";

/// What is read of it, in MiB.
const MIB: u64 = 64;

/// Most times that it is read until all of it comes from the host.
const READS: usize = 6;
const PAGES: f64 = (MIB << 20 >> 12) as f64;

/// Target: a read through a filter that serves nothing, beside the disk alone.
const SERVES_NOTHING: f64 = 1.01;

/// Reads it in order, through the page cache, which has nothing of it.
fn read(counted: &Counted) -> Result<Spent> {
    counted.sh("echo 3 >/proc/sys/vm/drop_caches; busybox sleep 1")?;
    let script = format!("busybox dd if={DEVICE} of=/dev/null bs=1M count={MIB} 2>/dev/null");
    let (spent, _) = counted.counter.during(|| counted.sh(&script))?;
    Ok(spent.each(PAGES))
}

/// Has the kernel evict it, a little at a time, so that what is put of it finds room on its way.
const EVICT: &str = "for i in $(busybox seq 128); do \
    echo 1M >/groups/memory.reclaim 2>/dev/null || true; busybox sleep 0.02; done";

/// A part that counts as all.
const FROM_HOST: f64 = 0.95;

/// Reads until all comes from the host, or as often as it is worth while: not all that is read, or
/// evicted, can be put at a time. Gives what the last reading took, and the part that came from there.
fn read_from_host(counted: &Counted) -> Result<(Spent, f64)> {
    let mut last = (Spent::default(), 0.0);
    for _ in 0..READS {
        counted.sh(EVICT)?;
        let before = hits(counted)?;
        let spent = read(counted)?;
        // The kernel reads ahead of the end, too.
        let part = (hits(counted)? - before) as f64 / PAGES;
        last = (spent, part.min(1.0));
        if last.1 >= FROM_HOST {
            break;
        }
    }
    Ok(last)
}

/// Says the part of what was read that came from the host, by round.
fn say_part(report: &mut Report, row: &Row, parts: &[f64]) {
    let part = median(parts.iter().copied()).unwrap_or(f64::NAN);
    report.metric(
        format!("block read: {}: part that was", row.name),
        part * 100.0,
        "%",
    );
}

/// Pages that came from the host.
fn hits(counted: &Counted) -> Result<u64> {
    let status = counted.guest.run("tmemctl status --json")?;
    let status: Value = serde_json::from_str(&status).context("tmemctl status")?;
    let filters = status.get("filters").and_then(Value::as_array);
    let hits = filters
        .into_iter()
        .flatten()
        .filter_map(|filter| filter.get("hits")?.as_u64());
    Ok(hits.sum())
}

pub(super) fn count(counted: &Counted, rounds: usize, report: &mut Report) -> Result<Vec<Row>> {
    // What is in use can have a filter.
    let holder = counted.sh(&format!(
        "busybox sleep 100000 <{DEVICE} >/dev/null 2>&1 & echo $!"
    ))?;
    let mut rows = [
        "disk alone",
        "precache, serves nothing",
        "precache, puts",
        "precache, from the host",
        "victim, notes",
        "victim, from the host",
    ]
    .map(Row::named);
    let (mut from_precache, mut from_victims) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        println!("filters, round {} of {rounds}", round + 1);
        let [alone, nothing, puts, hits, notes, victims] = &mut rows;
        read(counted)?;
        alone.push(read(counted)?);
        attach(counted, "precache")?;
        nothing.push(read(counted)?);
        puts.push(read(counted)?);
        let (spent, part) = read_from_host(counted)?;
        hits.push(spent);
        from_precache.push(part);
        detach(counted)?;
        attach(counted, "victim")?;
        notes.push(read(counted)?);
        let (spent, part) = read_from_host(counted)?;
        victims.push(spent);
        from_victims.push(part);
        detach(counted)?;
    }
    counted.guest.run(&format!("kill {}", holder.trim()))?;
    let [alone, others @ ..] = &rows;
    say(report, "block read", alone, None);
    for other in others {
        say(report, "block read", other, Some(alone));
    }
    let [nothing, _, hits, _, victims] = others;
    for (row, parts) in [(hits, &from_precache), (victims, &from_victims)] {
        say_part(report, row, parts);
    }
    report.target_at_most(
        "block read through a filter that serves nothing, beside the disk alone",
        nothing.median() / alone.median(),
        SERVES_NOTHING,
    );
    Ok(rows.into())
}

fn attach(counted: &Counted, kind: &str) -> Result<()> {
    let attach = format!("tmemctl attach --kind {kind} {DEVICE}");
    counted.guest.run(&attach).map(drop)
}

fn detach(counted: &Counted) -> Result<()> {
    let detach = format!("tmemctl detach {DEVICE}");
    counted.guest.run(&detach).map(drop)
}
