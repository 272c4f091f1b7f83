// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What was measured, as a table and as JSON.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// One metric, beside what it is compared with.
#[derive(Serialize)]
struct Metric {
    name: String,
    value: f64,
    unit: &'static str,
    baseline: Option<String>,
    ratio: Option<f64>,
}

/// A ratio that the project wants to hold.
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// Collects metrics and prints them.
#[derive(Default)]
pub(crate) struct Report {
    metrics: Vec<Metric>,
    verdicts: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    /// A metric on its own.
    pub(crate) fn metric(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.metrics.push(Metric {
            name: name.into(),
            value,
            unit,
            baseline: None,
            ratio: None,
        });
    }

    /// A metric beside another one in the same unit.
    pub(crate) fn against(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        baseline: impl Into<String>,
        other: f64,
    ) {
        self.metrics.push(Metric {
            name: name.into(),
            value,
            unit,
            baseline: Some(baseline.into()),
            ratio: Some(value / other),
        });
    }

    /// Says whether `ratio` is at most `limit`.
    pub(crate) fn target_at_most(&mut self, what: &str, ratio: f64, limit: f64) {
        self.verdict(what, ratio, &Target::AtMost(limit));
    }

    /// Says whether `ratio` is at least `limit`.
    pub(crate) fn target_at_least(&mut self, what: &str, ratio: f64, limit: f64) {
        self.verdict(what, ratio, &Target::AtLeast(limit));
    }

    /// Says whether `value` is below `limit`, both in `unit`.
    pub(crate) fn limit(&mut self, what: &str, value: f64, unit: &str, limit: f64) {
        let word = if value < limit { "met" } else { "MISSED" };
        self.verdicts.push(format!(
            "{what}: {value:.1} {unit}, target below {limit} {unit}: {word}"
        ));
    }

    /// Something a reader of the metrics must know.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn verdict(&mut self, what: &str, ratio: f64, target: &Target) {
        let (held, limit, words) = match target {
            Target::AtMost(limit) => (ratio <= *limit, limit, format!("at most {limit}x")),
            Target::AtLeast(limit) => (ratio >= *limit, limit, format!("at least {limit}x")),
        };
        let word = if held { "met" } else { "MISSED" };
        // As many digits as it takes to see why.
        let digits = if (ratio - limit).abs() < 0.005 { 4 } else { 2 };
        self.verdicts
            .push(format!("{what}: {ratio:.digits$}x, target {words}: {word}"));
    }

    /// Prints all metrics, notes and verdicts to standard output.
    pub(crate) fn print(&self) {
        println!(
            "\n{:<44} {:>12} {:<8} {:>8}  beside",
            "metric", "value", "unit", "ratio"
        );
        for metric in &self.metrics {
            let ratio = metric.ratio.map_or(String::new(), |r| format!("{r:.2}x"));
            let baseline = metric.baseline.as_deref().unwrap_or("");
            println!(
                "{:<44} {:>12.2} {:<8} {ratio:>8}  {baseline}",
                metric.name, metric.value, metric.unit
            );
        }
        println!();
        self.print_verdicts();
    }

    /// Each target, and whether it was met.
    pub(crate) fn verdicts(&self) -> &[String] {
        &self.verdicts
    }

    /// Prints all notes and verdicts to standard output.
    pub(crate) fn print_verdicts(&self) {
        for line in self.notes.iter().chain(&self.verdicts) {
            println!("{line}");
        }
    }

    /// Writes all metrics as a JSON list.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        write_json(path, &self.metrics)
    }
}

/// Writes `metrics` to the file `path`.
pub(crate) fn write_json(path: &Path, metrics: &impl Serialize) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut file = BufWriter::new(file);
    serde_json::to_writer_pretty(&mut file, metrics)
        .map_err(Into::into)
        .and_then(|()| file.flush())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The load of this machine, as the kernel has it: what else runs makes guests
/// slow, and the more so on an emulated CPU.
pub(crate) fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_shows_why() {
        let mut report = Report::default();
        report.target_at_most("a", 1.0302, 1.03);
        report.target_at_most("a", 1.0298, 1.03);
        report.target_at_most("a", 3.751, 1.03);
        report.target_at_least("a", 2.5, 2.0);
        let expected = [
            "a: 1.0302x, target at most 1.03x: MISSED",
            "a: 1.0298x, target at most 1.03x: met",
            "a: 3.75x, target at most 1.03x: MISSED",
            "a: 2.50x, target at least 2x: met",
        ];
        assert_eq!(report.verdicts, expected);
    }
}
