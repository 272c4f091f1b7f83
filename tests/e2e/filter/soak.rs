// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The same for hours: `cargo xtask soak`.

use crate::filter;
use crate::filter::places::Use;
use crate::filter::session;
use crate::filter::session::Plan;
use crate::filter::stress;
use crate::filter::swap;
use anyhow::Context;
use anyhow::Result;
use std::time::Duration;

/// How long the session is, in minutes; which file systems it has, by name and separated by commas;
/// and which kind of filters, `precache` or `victim`.
const MINUTES: &str = "TMEM_SOAK_MINUTES";
const FILESYSTEMS: &str = "TMEM_SOAK_FILESYSTEMS";
const KIND: &str = "TMEM_SOAK_KIND";

/// A guest is started anew after this time: another seed, other disks.
const GUEST: Duration = Duration::from_secs(20 * 60);

#[test]
#[ignore = "takes as long as it is told: cargo xtask soak"]
fn session() -> Result<()> {
    let minutes = std::env::var(MINUTES).unwrap_or_else(|_| "10".into());
    let minutes: u64 = minutes.parse().context(MINUTES)?;
    let wanted = std::env::var(FILESYSTEMS).unwrap_or_default();
    let uses = Use::ALL.into_iter().filter(|usage| {
        *usage == Use::Raw || wanted.is_empty() || wanted.split(',').any(|w| w == usage.name())
    });
    let uses: Vec<Use> = uses.collect();
    let kind = std::env::var(KIND).unwrap_or_default();
    let mut left = Duration::from_secs(minutes * 60);
    let mut seed = filter::seed();
    let mut turn = 0;
    while !left.is_zero() {
        let time = left.min(GUEST);
        left -= time;
        println!("---- seed {seed}, {} s", time.as_secs());
        let summary = session::run(&Plan {
            name: "soak",
            seed,
            uses: uses.clone(),
            time,
            filter: true,
            victims: kind == "victim" || kind.is_empty() && turn % 2 == 1,
            verbose: true,
        })?;
        turn += 1;
        println!("---- seed {seed}: nothing wrong\n{}", summary.table());
        seed = seed.wrapping_add(1000);
    }
    Ok(())
}

#[test]
#[ignore = "takes long: cargo xtask soak"]
fn a_thousand_filters() -> Result<()> {
    stress::run("soak-stress", 500, stress::CYCLE, true)
}

#[test]
#[ignore = "takes long: cargo xtask soak"]
fn three_times_the_memory() -> Result<()> {
    swap::run(&swap::Plan {
        name: "soak-swap",
        mib: 576,
        rounds: 2,
        filter: true,
    })
}
