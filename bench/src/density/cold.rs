// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How guests look for memory that is cold: the same in every variant that has
//! somewhere to put it.
//!
//! `tmemctl give-back on` sets the kernel's DAMON up, and needs the module. Where
//! there is none, a script writes the same values to the same files; where there is
//! one, it is read back that the values are the same.

use anyhow::Result;
use anyhow::ensure;
use std::fmt::Write;
use tmem_e2e::Guest;

/// Seconds without use, as `tmemctl give-back on --cold`. The default is 30, with
/// phases of guests that last minutes.
const SECONDS: u32 = 3;

/// CPU time for moving out, in percent, as `--cpu`: on an emulated CPU it takes many
/// times the time, so the default of 10 would be the only bound.
const CPU_PERCENT: u32 = 100;

/// Part of the time that tasks may wait, in millionths, as `--pressure`: the default.
/// Nothing is moved out of a guest that waits for what was.
const PRESSURE_MILLIONTHS: u32 = 5000;

/// Bytes in a second, as `--rate`: the default.
const RATE_MIB: u64 = 64;

/// Smallest block that is reported free, as `--order`: the module's default.
const ORDER: u32 = 5;

/// Milliseconds between reports, as `--delay`.
const DELAY_MS: u32 = 500;

/// Where DAMON is set up.
const DAMON: &str = "/sys/kernel/mm/damon/admin/kdamonds";

/// Parameters of free page reporting.
const REPORTING: &str = "/sys/module/page_reporting/parameters";

/// In words, for the report.
pub(crate) fn describe() -> String {
    format!(
        "memory is cold after {SECONDS} s without use and is moved out at most {RATE_MIB} MiB/s, \
         with up to {CPU_PERCENT} % of a CPU, while tasks wait for memory less than {} % of the time; free memory is \
         reported in blocks of {} KiB, every {DELAY_MS} ms",
        pressure(),
        4 << ORDER
    )
}

/// In percent.
fn pressure() -> f64 {
    f64::from(PRESSURE_MILLIONTHS) / 1e4
}

/// Sets reporting up, before anybody reports.
pub(crate) fn prepare_reporting(guest: &Guest) -> Result<()> {
    guest.write(
        &format!("{REPORTING}/page_reporting_order"),
        &ORDER.to_string(),
    )?;
    guest.write(
        &format!("{REPORTING}/page_reporting_delay_ms"),
        &DELAY_MS.to_string(),
    )
}

/// What has the module do it all.
pub(crate) fn command() -> String {
    format!(
        "tmemctl give-back on --cold {SECONDS} --pressure {} --rate {RATE_MIB}M \
         --cpu {CPU_PERCENT} --order {ORDER} --delay {DELAY_MS}",
        pressure()
    )
}

/// The files below the context's directory, and their values. See
/// `tmemctl/src/give_back/damon.rs`.
fn values() -> Vec<(&'static str, String)> {
    vec![
        ("operations", "paddr".into()),
        ("monitoring_attrs/intervals/sample_us", "50000".into()),
        ("monitoring_attrs/intervals/aggr_us", "1000000".into()),
        ("monitoring_attrs/nr_regions/min", "10".into()),
        ("monitoring_attrs/nr_regions/max", "1000".into()),
        ("schemes/nr_schemes", "1".into()),
        ("schemes/0/action", "pageout".into()),
        ("schemes/0/access_pattern/sz/min", "4096".into()),
        ("schemes/0/access_pattern/sz/max", u64::MAX.to_string()),
        ("schemes/0/access_pattern/nr_accesses/min", "0".into()),
        ("schemes/0/access_pattern/nr_accesses/max", "0".into()),
        ("schemes/0/access_pattern/age/min", SECONDS.to_string()),
        ("schemes/0/access_pattern/age/max", u32::MAX.to_string()),
        ("schemes/0/quotas/ms", (CPU_PERCENT * 10).to_string()),
        ("schemes/0/quotas/bytes", (RATE_MIB << 20).to_string()),
        ("schemes/0/quotas/reset_interval_ms", "1000".into()),
        ("schemes/0/quotas/weights/sz_permil", "0".into()),
        ("schemes/0/quotas/weights/nr_accesses_permil", "0".into()),
        ("schemes/0/quotas/weights/age_permil", "1".into()),
        ("schemes/0/quotas/goals/nr_goals", "1".into()),
        ("schemes/0/quotas/goal_tuner", "temporal".into()),
        ("schemes/0/quotas/fail_charge_num", "1".into()),
        ("schemes/0/quotas/fail_charge_denom", "1024".into()),
        (
            "schemes/0/quotas/goals/0/target_metric",
            "some_mem_psi_us".into(),
        ),
        (
            "schemes/0/quotas/goals/0/target_value",
            PRESSURE_MILLIONTHS.to_string(),
        ),
        ("schemes/0/watermarks/metric", "none".into()),
    ]
}

/// Begins to look for cold memory, without the module.
pub(crate) fn begin(guest: &Guest) -> Result<()> {
    let mut script = format!(
        "echo N >/sys/module/damon_stat/parameters/enabled\n\
         cd {DAMON}\necho 1 >nr_kdamonds\necho 1 >0/contexts/nr_contexts\n\
         cd 0/contexts/0\necho 1 >targets/nr_targets\n"
    );
    let ranges = memory(&guest.read("/proc/iomem")?);
    ensure!(!ranges.is_empty(), "the guest shows no memory");
    let _ = writeln!(
        script,
        "echo {} >targets/0/regions/nr_regions",
        ranges.len()
    );
    for (at, (start, end)) in ranges.iter().enumerate() {
        let _ = writeln!(script, "echo {start} >targets/0/regions/{at}/start");
        let _ = writeln!(script, "echo {end} >targets/0/regions/{at}/end");
    }
    for (file, value) in values() {
        let _ = writeln!(script, "echo {value} >{file}");
    }
    script.push_str("echo on >../../state\n");
    guest.sh(&script)?;
    as_meant(guest)
}

/// Fails unless DAMON runs with the values of above.
pub(crate) fn as_meant(guest: &Guest) -> Result<()> {
    let state = guest.read(&format!("{DAMON}/0/state"))?;
    ensure!(state.trim() == "on", "DAMON is {}", state.trim());
    for (file, value) in values() {
        let found = guest.read(&format!("{DAMON}/0/contexts/0/{file}"))?;
        ensure!(
            found.trim() == value,
            "DAMON's {file} is {}, and {value} elsewhere: the variants would differ in more than \
             where pages go",
            found.trim()
        );
    }
    Ok(())
}

/// Ranges of `System RAM` in the text of /proc/iomem.
fn memory(text: &str) -> Vec<(u64, u64)> {
    let lines = text.lines().filter(|line| !line.starts_with(' '));
    lines
        .filter_map(|line| {
            let (first, last) = line.strip_suffix(" : System RAM")?.split_once('-')?;
            let first = u64::from_str_radix(first, 16).ok()?;
            let last = u64::from_str_radix(last, 16).ok()?;
            Some((first, last.checked_add(1)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_and_its_parts_are_not() {
        let text = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n\
                    00100000-1ffdffff : System RAM\n  01000000-01ffffff : Kernel code\n";
        assert_eq!(memory(text), [(0x1000, 0x9_fc00), (0x10_0000, 0x1ffe_0000)]);
    }
}
