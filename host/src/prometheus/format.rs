// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The formats that scrapers read, and which of them one wants.

/// How metrics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format 0.0.4, which all scrapers read.
    #[default]
    Text,
    /// OpenMetrics 1.0, which has units and an end.
    OpenMetrics,
}

/// The media type of OpenMetrics, without parameters.
const OPEN_METRICS: &str = "application/openmetrics-text";

impl Format {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The one that is wanted more, as an `Accept` header says (RFC 9110, 12.5.1). Who wants
    /// neither gets text.
    pub fn wanted(accept: &str) -> Self {
        let (mut text, mut open) = (0, 0);
        for range in accept.split(',').filter_map(Range::read) {
            match range.kind.as_str() {
                OPEN_METRICS => open = range.quality.max(open),
                "text/plain" | "text/*" | "*/*" => text = range.quality.max(text),
                _ => {}
            }
        }
        // A wildcard alone is no wish for OpenMetrics.
        if open > 0 && open >= text {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// A media range that can be served.
struct Range {
    kind: String,
    /// In thousandths.
    quality: u16,
}

impl Range {
    /// A part of an `Accept` header; `None` if it makes no sense, or is another version.
    fn read(part: &str) -> Option<Self> {
        let mut parameters = part.split(';');
        let kind = parameters.next()?.trim().to_ascii_lowercase();
        let mut quality = 1000;
        for parameter in parameters {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = thousandths(value)?,
                "version" if kind == OPEN_METRICS => {
                    // What 0.0.1 was drafted as is what is written.
                    ["1.0.0", "0.0.1"].contains(&value).then_some(())?;
                }
                "version" => (value == "0.0.4").then_some(())?,
                _ => {}
            }
        }
        Some(Self { kind, quality })
    }
}

/// A weight from 0 to 1 with at most three decimals.
fn thousandths(value: &str) -> Option<u16> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let is_weight = decimals.len() <= 3 && decimals.bytes().all(|it| it.is_ascii_digit());
    let decimals = is_weight.then(|| format!("{decimals:0<3}"))?;
    match whole {
        "0" => decimals.parse().ok(),
        "1" if decimals == "000" => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_wanted_more() {
        use Format::{OpenMetrics, Text};
        for (accept, wanted) in [
            ("", Text),
            ("*/*", Text),
            ("application/openmetrics-text", OpenMetrics),
            ("application/openmetrics-text;q=0", Text),
            ("application/openmetrics-text;q=0.1, text/plain", Text),
            (
                "Application/OpenMetrics-Text; Version=1.0.0; Q=0.5, */*;q=0.2",
                OpenMetrics,
            ),
            ("application/openmetrics-text; version=2.0.0, */*", Text),
            ("application/openmetrics-text;q=2, text/plain;q=0.1", Text),
            ("application/json, nonsense;;=, text/html", Text),
            // What Prometheus 2.53 and 3.5 send.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
        ] {
            assert_eq!(Format::wanted(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn weights_have_three_decimals_at_most() {
        for (text, weight) in [
            ("1", Some(1000)),
            ("1.000", Some(1000)),
            ("0", Some(0)),
            ("0.", Some(0)),
            ("0.5", Some(500)),
            ("0.123", Some(123)),
            ("0.1234", None),
            ("1.1", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(thousandths(text), weight, "{text}");
        }
    }
}
