// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The time that tasks wait for memory: pressure stall information.

use std::fs;
use std::path::Path;

/// The part of the time in which some task waited for memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pressure {
    /// Of the last 10 seconds, in percent, as the kernel writes it.
    pub(super) last_10_s: String,
    /// Of the last 60 seconds.
    pub(super) last_60_s: String,
    /// Since boot, in microseconds.
    pub(super) total_us: u64,
}

/// What the kernel says; none when it does not count this.
pub(super) fn read(proc: &Path) -> Option<Pressure> {
    parse(&fs::read_to_string(proc.join("pressure/memory")).ok()?)
}

/// Of lines as `some avg10=0.00 avg60=0.12 avg300=0.03 total=123`.
fn parse(text: &str) -> Option<Pressure> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let field = |name: &str| {
        line.split(' ')
            .filter_map(|field| field.split_once('='))
            .find_map(|(key, value)| (key == name).then(|| value.to_string()))
    };
    Some(Pressure {
        last_10_s: field("avg10")?,
        last_60_s: field("avg60")?,
        total_us: field("total")?.parse().ok()?,
    })
}

/// Millionths as a percentage.
pub(super) fn percent(millionths: u64) -> String {
    let decimals = format!("{:04}", millionths % 10_000);
    let decimals = decimals.trim_end_matches('0');
    let dot = if decimals.is_empty() { "" } else { "." };
    format!("{}{dot}{decimals} %", millionths / 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_that_of_some_tasks() {
        let text = "some avg10=1.50 avg60=0.12 avg300=0.03 total=123\n\
                    full avg10=9.00 avg60=9.00 avg300=9.00 total=9\n";
        let pressure = parse(text).unwrap();
        assert_eq!(pressure.last_10_s, "1.50");
        assert_eq!(pressure.last_60_s, "0.12");
        assert_eq!(pressure.total_us, 123);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn millionths_are_shown_exactly() {
        for (millionths, text) in [(5000, "0.5 %"), (10_000, "1 %"), (1, "0.0001 %")] {
            assert_eq!(percent(millionths), text);
        }
    }
}
