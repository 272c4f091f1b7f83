// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bytes for each page after each step, as a picture.

use crate::aging::row::Row;
use anyhow::Result;
use plotters::prelude::*;

/// The picture in pixels.
const SIZE: (u32, u32) = (960, 720);

/// A line: its name, its colour, whether it is of the rows with the cold tier, and what it
/// shows of a row.
type Line = (&'static str, RGBColor, bool, fn(&Row) -> Option<f64>);

/// Colours for the eye, also one that does not tell red from green (Okabe and Ito).
const LINES: [Line; 4] = [
    ("zram", RGBColor(0x56, 0xb4, 0xe9), false, |row| {
        Some(row.zram?.before_compaction)
    }),
    (
        "zram, compacted",
        RGBColor(0xe6, 0x9f, 0x00),
        false,
        |row| Some(row.zram?.after_compaction),
    ),
    ("store, lz4", RGBColor(0x00, 0x9e, 0x73), false, |row| {
        Some(row.store)
    }),
    (
        "store, with the cold tier",
        RGBColor(0xcc, 0x79, 0xa7),
        true,
        |row| Some(row.store),
    ),
];

/// An SVG with a panel for each pattern.
pub(super) fn draw(rows: &[Row]) -> Result<String> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((2, 2));
    let of_patterns =
        rows.chunk_by(|one, other| (one.pattern, one.clients) == (other.pattern, other.clients));
    for (rows, panel) in of_patterns.zip(&panels) {
        panel_of(rows, panel)?;
    }
    root.present()?;
    drop(panels);
    drop(root);
    // The library ends no line.
    svg.push('\n');
    Ok(svg)
}

fn panel_of(
    rows: &[Row],
    panel: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
) -> Result<()> {
    let most = |row: &Row| {
        let zram = row.zram.map_or(0.0, |zram| zram.before_compaction);
        row.store.max(zram)
    };
    let top = rows.iter().map(most).fold(0.0, f64::max) * 1.1;
    let steps: Vec<_> = rows.iter().filter(|row| !row.cold_tier).collect();
    let last = steps.len().saturating_sub(1) as f64;
    let title = rows.iter().find(|row| !row.cold_tier).map(Row::title);
    let mut chart = ChartBuilder::on(panel)
        .caption(title.unwrap_or_default(), ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(24)
        .y_label_area_size(44)
        .build_cartesian_2d(-0.3..last + 0.3, 0.0..top)?;
    let name = |at: &f64| {
        let step = steps
            .iter()
            .zip(0_u32..)
            .find(|(_, nth)| f64::from(*nth) == *at);
        step.map_or(String::new(), |(row, _)| short(row.after).into())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(steps.len())
        .x_label_formatter(&name)
        .y_labels(6)
        .y_label_formatter(&|bytes| format!("{bytes:.0}"))
        .draw()?;
    for (name, colour, cold_tier, value) in LINES {
        let of_line = rows.iter().filter(|row| row.cold_tier == cold_tier);
        let points: Vec<_> = (0_u32..)
            .zip(of_line)
            .filter_map(|(nth, row)| Some((f64::from(nth), value(row)?)))
            .collect();
        if points.is_empty() {
            continue;
        }
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        chart.draw_series(points.iter().map(|at| Circle::new(*at, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

/// The beginning of a step's name.
fn short(step: &str) -> &str {
    let ends = [" in ", " at ", " one "].map(|end| step.find(end));
    let end = ends.into_iter().flatten().min();
    end.and_then(|end| step.get(..end)).unwrap_or(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aging::table::tests::rows;

    #[test]
    fn each_pattern_has_a_panel_and_each_line_a_name() {
        let svg = draw(&rows()).unwrap();
        for text in [
            "files, one client",
            "files, 8 clients",
            "zram, compacted",
            "store, lz4",
        ] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        // Nobody has measured it.
        assert!(!svg.contains("cold tier"));
    }

    #[test]
    fn steps_have_short_names() {
        let names = [
            "fill in order",
            "free 40 % in clusters of 8",
            "put again at random",
        ];
        assert_eq!(names.map(short), ["fill", "free 40 %", "put again"]);
    }
}
