// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A strict reader of both text formats, after their specifications: Prometheus's "exposition
//! formats" (0.0.4) and OpenMetrics 1.0.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    Text,
    OpenMetrics,
}

/// What is exposed.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// Values, by names with labels.
    pub(crate) samples: BTreeMap<String, f64>,
    /// Units of families.
    pub(crate) units: BTreeMap<String, String>,
    /// Types of families.
    pub(crate) types: BTreeMap<String, String>,
}

/// The family whose lines are read.
#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: String,
    has_help: bool,
}

impl Exposition {
    /// Reads all of it.
    pub(crate) fn read(flavor: Flavor, text: &str) -> Self {
        let mut all = Self::default();
        let mut family = Family::default();
        assert!(text.ends_with('\n'), "a last line without end");
        assert!(!text.contains('\r'));
        let mut lines = text.lines().collect::<Vec<_>>();
        if flavor == Flavor::OpenMetrics {
            assert_eq!(lines.pop(), Some("# EOF"));
        }
        for line in lines {
            match line.strip_prefix("# ") {
                Some(head) => all.head(flavor, &mut family, head),
                None => all.sample(flavor, &family, line),
            }
        }
        all.histograms();
        all
    }

    fn head(&mut self, flavor: Flavor, family: &mut Family, line: &str) {
        let mut words = line.splitn(3, ' ');
        let (keyword, name) = (words.next().unwrap(), words.next().unwrap());
        let rest = words.next().unwrap_or_else(|| panic!("{line}"));
        if family.name != name {
            assert!(is_name(name), "{line}");
            assert!(!self.types.contains_key(name), "{name} stands twice");
            *family = Family {
                name: name.to_owned(),
                ..Family::default()
            };
        }
        match keyword {
            "HELP" => {
                assert!(!family.has_help && !rest.is_empty(), "{line}");
                assert!(!rest.contains('\\') && !rest.contains('"'), "{line}");
                family.has_help = true;
            }
            "TYPE" => {
                assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                assert!(family.kind.is_empty(), "{line}");
                let is_suffixed = name.ends_with("_total");
                match flavor {
                    Flavor::Text => assert_eq!(is_suffixed, rest == "counter", "{line}"),
                    Flavor::OpenMetrics => assert!(!is_suffixed, "{line}"),
                }
                rest.clone_into(&mut family.kind);
                self.types.insert(name.to_owned(), rest.to_owned());
            }
            "UNIT" => {
                assert_eq!(flavor, Flavor::OpenMetrics, "{line}");
                assert!(name.ends_with(&format!("_{rest}")), "{line}");
                let before = self.units.insert(name.to_owned(), rest.to_owned());
                assert_eq!(before, None, "{line}");
            }
            _ => panic!("{line}"),
        }
    }

    fn sample(&mut self, flavor: Flavor, family: &Family, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (series, ""),
        };
        assert!(family.has_help && is_name(name), "{line}");
        let suffix = name.strip_prefix(&family.name);
        let suffix = suffix.unwrap_or_else(|| panic!("{line} is not of {}", family.name));
        let expected: &[&str] = match (family.kind.as_str(), flavor) {
            ("counter", Flavor::OpenMetrics) => &["_total"],
            ("counter" | "gauge", _) => &[""],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            _ => panic!("{line}: before its type"),
        };
        assert!(expected.contains(&suffix), "{line}");
        let labels = labels_of(labels);
        assert_eq!(
            labels.iter().any(|(name, _)| name == "le"),
            suffix == "_bucket"
        );
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(value.is_finite() && value >= 0.0, "{line}");
        let before = self.samples.insert(series.to_owned(), value);
        assert_eq!(before, None, "{line} stands twice");
    }

    /// Buckets of a series add up, and the last has all.
    fn histograms(&self) {
        let mut buckets: BTreeMap<(String, String), Vec<(f64, f64)>> = BTreeMap::new();
        for (series, value) in &self.samples {
            let Some((name, labels)) = series.split_once("_bucket{") else {
                continue;
            };
            let mut labels = labels_of(labels.strip_suffix('}').unwrap());
            let at = labels.iter().position(|(name, _)| name == "le").unwrap();
            let (_, bound) = labels.remove(at);
            let bound = match bound.as_str() {
                "+Inf" => f64::INFINITY,
                // Never whole in print, as both formats' readers compare them as text.
                text => text.parse().unwrap(),
            };
            let labels: Vec<_> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{value}\""))
                .collect();
            let of = (name.to_owned(), labels.join(","));
            buckets.entry(of).or_default().push((bound, *value));
        }
        for ((name, labels), mut buckets) in buckets {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(
                buckets.is_sorted_by(|one, other| one.1 <= other.1),
                "{name}"
            );
            let last = buckets.last().unwrap();
            assert_eq!(last.0, f64::INFINITY, "{name}{{{labels}}}");
            let count = self.samples[&format!("{name}_count{{{labels}}}")];
            assert_eq!(last.1, count, "{name}{{{labels}}}");
            assert!(
                self.samples
                    .contains_key(&format!("{name}_sum{{{labels}}}"))
            );
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    bytes.next().is_some_and(first) && bytes.all(|byte| first(byte) || byte.is_ascii_digit())
}

/// Names and values, as they are printed.
fn labels_of(text: &str) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, more) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(is_name(name) && !name.contains(':'), "{text}");
        let mut is_escaped = false;
        let end = more.find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let end = end.unwrap_or_else(|| panic!("{text}"));
        assert!(labels.iter().all(|(known, _)| known != name), "{text}");
        labels.push((name.to_owned(), more[..end].to_owned()));
        rest = &more[end + 1..];
        rest = match rest.strip_prefix(',') {
            Some(rest) => {
                assert!(!rest.is_empty(), "{text}");
                rest
            }
            None => {
                assert!(rest.is_empty(), "{text}");
                rest
            }
        };
    }
    labels
}
