// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Families of metrics, and how they are written.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write};
use std::time::Duration;

use tmem_store::{Metric, MetricKind, Unit};
use virtio_serve::Recorded;

use super::format::Format;

/// What is shown: families by name, because what is said of a family and its samples belong
/// together.
#[derive(Clone, Debug, Default)]
pub struct Page(BTreeMap<String, Family>);

#[derive(Clone, Debug)]
struct Family {
    kind: &'static str,
    unit: Option<&'static str>,
    help: &'static str,
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    suffix: &'static str,
    labels: String,
    value: String,
}

/// The suffix of a counter's samples.
const TOTAL: &str = "_total";

impl Page {
    /// Adds a sample of the family that `prefix` and the metric's name give. Time is given
    /// in seconds, as scrapers want it.
    pub fn add(&mut self, prefix: &str, metric: &Metric, labels: &[(&str, &str)]) {
        let (kind, suffix) = match metric.kind {
            MetricKind::Counter => ("counter", TOTAL),
            MetricKind::Gauge => ("gauge", ""),
        };
        let (unit, name, value) = match metric.unit {
            Unit::Microseconds => {
                let name = metric.name.trim_end_matches("microseconds");
                let time = Duration::from_micros(metric.value);
                let value = time.as_secs_f64().to_string();
                (Some("seconds"), format!("{prefix}{name}seconds"), value)
            }
            unit => {
                let name = format!("{prefix}{}", metric.name);
                (own_name(unit), name, metric.value.to_string())
            }
        };
        let family = self.family(name, kind, unit, metric.help);
        family.samples.push(Sample {
            suffix,
            labels: Labels(labels).to_string(),
            value,
        });
    }

    /// Has a family of histograms of seconds, even if nothing is recorded.
    pub(super) fn add_histograms(&mut self, name: &str, help: &'static str) {
        self.family(name.to_owned(), "histogram", Some("seconds"), help);
    }

    /// Adds a histogram of seconds.
    pub(super) fn add_histogram(
        &mut self,
        name: &str,
        help: &'static str,
        recorded: &Recorded,
        labels: &[(&str, &str)],
    ) {
        let family = self.family(name.to_owned(), "histogram", Some("seconds"), help);
        for (bound, count) in &recorded.buckets {
            let bound = bound.map_or_else(|| "+Inf".into(), seconds);
            let labels = [labels, &[("le", bound.as_str())]].concat();
            family.samples.push(Sample {
                suffix: "_bucket",
                labels: Labels(&labels).to_string(),
                value: count.to_string(),
            });
        }
        let labels = Labels(labels).to_string();
        let (sum, count) = (recorded.sum.as_secs_f64(), recorded.count());
        for (suffix, value) in [("_sum", sum.to_string()), ("_count", count.to_string())] {
            family.samples.push(Sample {
                suffix,
                labels: labels.clone(),
                value,
            });
        }
    }

    fn family(
        &mut self,
        name: String,
        kind: &'static str,
        unit: Option<&'static str>,
        help: &'static str,
    ) -> &mut Family {
        // OpenMetrics: a unit is in the name as well.
        let unit = unit.filter(|unit| name.ends_with(&format!("_{unit}")));
        self.0.entry(name).or_insert_with(|| Family {
            kind,
            unit,
            help,
            samples: Vec::new(),
        })
    }

    /// All of it in this format.
    pub fn write(&self, format: Format) -> String {
        let mut text = String::new();
        for (name, family) in &self.0 {
            // Writing to a string does not fail.
            let _ = write_family(&mut text, format, name, family);
        }
        if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

fn write_family(
    to: &mut String,
    format: Format,
    name: &str,
    Family {
        kind,
        unit,
        help,
        samples,
    }: &Family,
) -> fmt::Result {
    // The text format calls a family of counters as its samples are called.
    let suffix = match format {
        Format::Text if *kind == "counter" => TOTAL,
        _ => "",
    };
    writeln!(to, "# HELP {name}{suffix} {help}")?;
    writeln!(to, "# TYPE {name}{suffix} {kind}")?;
    if let (Format::OpenMetrics, Some(unit)) = (format, unit) {
        writeln!(to, "# UNIT {name} {unit}")?;
    }
    for sample in samples {
        let Sample {
            suffix,
            labels,
            value,
        } = sample;
        writeln!(to, "{name}{suffix}{labels} {value}")?;
    }
    Ok(())
}

/// What a unit is called.
fn own_name(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Bytes => Some("bytes"),
        Unit::Pages => Some("pages"),
        Unit::Segments => Some("segments"),
        _ => None,
    }
}

/// A bound of a bucket as OpenMetrics has it: as Go and C's `%g` write it.
fn seconds(bound: Duration) -> String {
    let bound = bound.as_secs_f64();
    if bound == 0.0 || bound >= 1e-4 {
        return format!("{bound:?}");
    }
    let text = format!("{bound:e}");
    match text.split_once("e-") {
        Some((digits, exponent)) => format!("{digits}e-{exponent:0>2}"),
        None => text,
    }
}

/// A sample's labels, like `{vm="a"}`; nothing if there are none.
struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut before = '{';
        for (name, value) in self.0 {
            write!(f, "{before}{name}=\"")?;
            for c in value.chars() {
                match c {
                    '\\' | '"' => write!(f, "\\{c}")?,
                    '\n' => f.write_str("\\n")?,
                    _ => f.write_char(c)?,
                }
            }
            f.write_char('"')?;
            before = ',';
        }
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_char('}')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let mut page = Page::default();
        for vm in ["a", "b"] {
            page.add("x_", &Metric::counter("n", 1, "Ns."), &[("vm", vm)]);
            page.add("x_", &Metric::gauge("m_bytes", 2, "Ms."), &[("vm", vm)]);
        }
        page
    }

    #[test]
    fn samples_of_a_family_stand_together_under_one_head() {
        let expected = "\
            # HELP x_m_bytes Ms.\n# TYPE x_m_bytes gauge\n\
            x_m_bytes{vm=\"a\"} 2\nx_m_bytes{vm=\"b\"} 2\n\
            # HELP x_n_total Ns.\n# TYPE x_n_total counter\n\
            x_n_total{vm=\"a\"} 1\nx_n_total{vm=\"b\"} 1\n";
        assert_eq!(page().write(Format::Text), expected);
    }

    #[test]
    fn open_metrics_has_units_and_an_end_and_no_suffix_in_heads() {
        let expected = "\
            # HELP x_m_bytes Ms.\n# TYPE x_m_bytes gauge\n# UNIT x_m_bytes bytes\n\
            x_m_bytes{vm=\"a\"} 2\nx_m_bytes{vm=\"b\"} 2\n\
            # HELP x_n Ns.\n# TYPE x_n counter\n\
            x_n_total{vm=\"a\"} 1\nx_n_total{vm=\"b\"} 1\n# EOF\n";
        assert_eq!(page().write(Format::OpenMetrics), expected);
    }

    #[test]
    fn time_is_in_seconds() {
        let mut page = Page::default();
        let metric = Metric::counter("work_microseconds", 1_500_000, "Work.");
        page.add("x_", &metric, &[]);
        let expected = "# HELP x_work_seconds Work.\n# TYPE x_work_seconds counter\n\
            # UNIT x_work_seconds seconds\nx_work_seconds_total 1.5\n# EOF\n";
        assert_eq!(page.write(Format::OpenMetrics), expected);
    }

    #[test]
    fn bounds_are_written_as_scrapers_compare_them() {
        for (micros, text) in [
            (1, "1e-06"),
            (16, "1.6e-05"),
            (64, "6.4e-05"),
            (128, "0.000128"),
            (1_000_000, "1.0"),
            (1_048_576, "1.048576"),
        ] {
            assert_eq!(seconds(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn labels_are_escaped() {
        let labels = Labels(&[("vm", "a\"b\\c\nd"), ("op", "put")]);
        assert_eq!(labels.to_string(), r#"{vm="a\"b\\c\nd",op="put"}"#);
    }
}
