// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's memory over time, as a plot.

use crate::density::outcome::Outcome;
use crate::density::plan::Plan;
use crate::density::way::Way;
use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// The plot's size in pixels.
const SIZE: (u32, u32) = (960, 480);

/// Between two points of a line, in seconds.
const STEP: f64 = 1.0;

/// An SVG.
///
/// # Errors
/// When the plot cannot be drawn.
pub(crate) fn draw(plan: &Plan, outcomes: &[Outcome], emulated: bool) -> Result<String> {
    let mut svg = String::new();
    // Its errors borrow what they are about.
    draw_to(&mut svg, plan, outcomes, emulated)
        .map_err(|error| anyhow!("cannot draw the host's memory: {error}"))?;
    Ok(svg)
}

fn draw_to(
    svg: &mut String,
    plan: &Plan,
    outcomes: &[Outcome],
    emulated: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!(
        "Host memory held by {} guests of {} MiB, of {} MiB that there are",
        plan.guests, plan.memory_mib, plan.budget_mib
    );
    let note = if emulated {
        "; times are those of emulated CPUs"
    } else {
        ""
    };
    let note = format!(
        "control group of daemon and guests, by the host's kernel; × is where a guest was found \
         to be lost{note}"
    );
    let area = root.titled(&title, ("sans-serif", 16))?;
    let area = area.titled(&note, ("sans-serif", 12))?;
    let ends = outcomes
        .iter()
        .filter_map(|outcome| outcome.samples.last())
        .map(|sample| sample.seconds);
    let seconds = ends.fold(60.0, f64::max);
    let budget = plan.budget_mib as f64;
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..seconds, 0.0..budget * 1.1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .x_label_formatter(&|seconds| format!("{seconds:.0} s"))
        .y_label_formatter(&|mib| format!("{mib:.0} MiB"))
        .draw()?;
    let limit = DashedLineSeries::new([(0.0, budget), (seconds, budget)], 6, 4, RED.into());
    chart
        .draw_series(limit)?
        .label("limit")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], RED));
    for outcome in outcomes {
        let colour = colour(outcome.way);
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points(outcome), style))?
            .label(outcome.way.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
        let losses = outcome.losses.iter().map(|loss| {
            let held = held_at(outcome, loss.seconds);
            Cross::new((loss.seconds, held), 5, colour.stroke_width(3))
        });
        chart.draw_series(losses)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}

/// What is held over time, in seconds and MiB.
fn points(outcome: &Outcome) -> impl Iterator<Item = (f64, f64)> {
    let mut next = 0.0;
    outcome.samples.iter().filter_map(move |sample| {
        let is_next = sample.seconds >= next;
        is_next.then(|| {
            next = sample.seconds + STEP;
            (sample.seconds, mib(sample.held))
        })
    })
}

fn held_at(outcome: &Outcome, seconds: f64) -> f64 {
    let mut samples = outcome.samples.iter();
    let before = samples.rfind(|sample| sample.seconds <= seconds);
    before.map_or(0.0, |sample| mib(sample.held))
}

/// For the eye, also one that does not tell red from green (Okabe and Ito).
fn colour(way: Way) -> RGBColor {
    match way {
        Way::Nothing => RGBColor(0x99, 0x99, 0x99),
        Way::Reporting => RGBColor(0xe6, 0x9f, 0x00),
        Way::Zram => RGBColor(0x56, 0xb4, 0xe9),
        Way::Disk => RGBColor(0xcc, 0x79, 0xa7),
        Way::Tmem => RGBColor(0x00, 0x9e, 0x73),
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::density::table::tests::lossy;
    use crate::density::table::tests::outcome;

    #[test]
    fn each_variant_has_a_line_and_each_loss_a_mark() {
        let outcomes = [lossy(), outcome(Way::Tmem, 4, 100.0)];
        let svg = draw(&Plan::WHOLE, &outcomes, true).unwrap();
        let without = |lossy: Outcome| Outcome {
            losses: Vec::new(),
            ..lossy
        };
        let outcomes = [without(lossy()), outcome(Way::Tmem, 4, 100.0)];
        let unmarked = draw(&Plan::WHOLE, &outcomes, true).unwrap();
        let lines = |svg: &str| svg.matches("<line").count();
        // A cross is two lines.
        assert_eq!(lines(&svg), lines(&unmarked) + 2);
        assert!(svg.contains("emulated"));
        assert!(svg.contains("virtio-tmem"));
    }
}
