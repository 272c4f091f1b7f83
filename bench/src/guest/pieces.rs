// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pieces of work that are measured, and whether each read what it should.

use crate::guest::content::Content;
use crate::guest::content::DATABASE;
use crate::guest::content::SOURCES;
use crate::guest::content::UNPACKED;
use crate::guest::session::MOUNT;
use crate::guest::session::Measured;
use crate::guest::session::Session;
use crate::guest::session::Way;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde::Serialize;
use tmem_work::Outcome;

/// Numbers of the disks.
const FILES: usize = 0;
const TEXTS: usize = 1;
const BUILD: usize = 2;

/// What is built of the sources, and how. An emulated CPU takes long to optimise.
const MAKE: &str = "make -s -j2 -C lz4/programs lz4 CFLAGS=-O0";

/// How much of each is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amounts {
    /// Times that all files are read.
    pub(crate) passes: u64,
    /// Times that so many rows are read, after all of them once.
    pub(crate) rounds: u64,
    pub(crate) rows: u64,
    /// Times that the sources are built.
    pub(crate) builds: u64,
}

/// A piece of work that was done.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Piece {
    pub(crate) name: String,
    pub(crate) way: Way,
    /// Whether the disk was held to a limit.
    pub(crate) limited: bool,
    /// On the guest's clock.
    pub(crate) seconds: f64,
    #[serde(flatten)]
    pub(crate) measured: Measured,
}

/// Does all of it in one guest.
pub(crate) fn run(
    session: &Session,
    content: &Content,
    amounts: Amounts,
    done: &mut dyn FnMut(String, f64, Measured),
) -> Result<()> {
    session.open(FILES)?;
    for pass in 1..=amounts.passes {
        let script = format!("work files {MOUNT} --seed {pass}");
        reads(session, FILES, &script, &content.files, &mut |s, m| {
            done(format!("files, pass {pass}"), s, m);
        })?;
    }
    session.close(FILES)?;

    session.open(TEXTS)?;
    let path = format!("{MOUNT}/{DATABASE}");
    let script = format!("work scan {path}");
    reads(session, TEXTS, &script, &content.scan, &mut |s, m| {
        done("SQLite, scan".into(), s, m);
    })?;
    for round in 1..=amounts.rounds {
        let rows = amounts.rows;
        let expected = content.rows(rows, round)?;
        let script = format!("work read {path} --count {rows} --seed {round}");
        reads(session, TEXTS, &script, &expected, &mut |s, m| {
            done(format!("SQLite, random reads {round}"), s, m);
        })?;
    }
    session.close(TEXTS)?;

    let Some(sources) = &content.sources else {
        return Ok(());
    };
    if session.way == Way::Eager {
        // What it does differently is seen above.
        return Ok(());
    }
    session.open(BUILD)?;
    session.work(BUILD, &format!("busybox mount --bind /dev {MOUNT}/dev"))?;
    for build in 1..=amounts.builds {
        let (said, measured) = session.work(BUILD, &build_script())?;
        done(format!("build {build}"), took(&said)?, measured);
    }
    // What was unpacked is what was packed, from wherever the disk's blocks come.
    let check =
        format!("sync; echo 3 >/proc/sys/vm/drop_caches; work files {MOUNT}/work/{UNPACKED}");
    let (said, _) = session.work(BUILD, &check)?;
    ensure!(
        outcome(&said)?.is_like(sources),
        "what was unpacked is wrong with {}: {said}",
        session.way.name()
    );
    session.work(BUILD, &format!("busybox umount {MOUNT}/dev"))?;
    session.close(BUILD)
}

/// Does a piece that only reads.
fn reads(
    session: &Session,
    disk: usize,
    script: &str,
    expected: &Outcome,
    done: &mut dyn FnMut(f64, Measured),
) -> Result<()> {
    let (said, measured) = session.work(disk, script)?;
    let outcome = outcome(&said)?;
    ensure!(
        outcome.is_like(expected),
        "{script}: WRONG BYTES with {}: {outcome:?} was read, not {expected:?}",
        session.way.name()
    );
    done(outcome.microseconds as f64 / 1e6, measured);
    Ok(())
}

fn outcome(said: &str) -> Result<Outcome> {
    serde_json::from_str(said.trim()).with_context(|| format!("the guest says {said:?}"))
}

/// Unpacks the sources, builds a program of them, and has it do something.
fn build_script() -> String {
    let lz4 = "lz4/programs/lz4";
    format!(
        "cat /proc/uptime
         busybox chroot {MOUNT} /bin/sh -euc '
             rm -rf work; mkdir work; cd work
             tar -xzf /{SOURCES}
             {MAKE} >make.log 2>&1 || {{ tail -n 20 make.log; exit 1; }}
             {lz4} -q -c /{SOURCES} >packed
             {lz4} -q -d -c packed | cmp - /{SOURCES}
             sync'
         cat /proc/uptime"
    )
}

/// Seconds between the first and the last line, of /proc/uptime both.
fn took(said: &str) -> Result<f64> {
    let time = |line: Option<&str>| -> Option<f64> { line?.split(' ').next()?.parse().ok() };
    let start = time(said.lines().next());
    let end = time(said.lines().last());
    start
        .zip(end)
        .map(|(start, end)| end - start)
        .with_context(|| format!("the guest says {said:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_build_is_between_its_first_and_last_line() {
        let took = took("12.50 3.00\nwhatever\n20.75 3.10\n").unwrap();
        assert!((took - 8.25).abs() < 1e-9);
        assert!(super::took("whatever").is_err());
    }
}
