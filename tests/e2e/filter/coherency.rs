// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is read is what was written last, whatever happens to the filter.

use crate::filter;
use crate::filter::places::Use;
use crate::filter::session;
use crate::filter::session::Plan;
use anyhow::Result;
use anyhow::ensure;
use std::time::Duration;

/// Time of the session in CI, in seconds; `cargo xtask soak` runs it for long.
const TIME: u64 = 45;

/// And of one without a filter.
const BARE_TIME: u64 = 20;

/// What each disk must have seen for the session to say anything.
const VERIFIED: u64 = 16 << 20;

fn plan(name: &'static str, seconds: u64) -> Plan {
    Plan {
        name,
        seed: filter::seed(),
        uses: Use::ALL.into(),
        time: Duration::from_secs(seconds),
        filter: false,
        victims: false,
        verbose: false,
    }
}

fn worked(summary: &session::Summary) -> Result<()> {
    println!("{}", summary.table());
    for (name, report) in &summary.reports {
        let verified = report.verified_bytes;
        ensure!(
            verified > VERIFIED,
            "{name}: only {verified} bytes compared"
        );
    }
    Ok(())
}

#[test]
#[ignore = "a control: cargo xtask e2e without_a_filter --ignored"]
fn without_a_filter_nothing_is_wrong() -> Result<()> {
    worked(&session::run(&plan("bare", BARE_TIME))?)
}

#[test]
fn nothing_is_wrong_while_filters_come_and_go() -> Result<()> {
    let plan = Plan {
        filter: true,
        ..plan("coherency", TIME)
    };
    took_part(&session::run(&plan)?)
}

#[test]
fn nothing_is_wrong_when_what_is_evicted_is_put() -> Result<()> {
    let plan = Plan {
        filter: true,
        victims: true,
        ..plan("victims", TIME)
    };
    took_part(&session::run(&plan)?)
}

fn took_part(summary: &session::Summary) -> Result<()> {
    worked(summary)?;
    // The host took part.
    ensure!(summary.puts > 0, "the host was given nothing");
    ensure!(summary.hits > 0, "nothing was read from the host");
    Ok(())
}
