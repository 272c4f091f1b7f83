// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's memory over time, as a picture.

use crate::density::outcome::Outcome;
use crate::density::plan::Plan;
use crate::density::way::Way;
use std::fmt::Write;

/// The picture, and the plot in it, in pixels.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 80.0;

/// Width of a line's key, without its name, and of a letter of that.
const KEY: f64 = 50.0;
const LETTER: f64 = 7.0;

/// Between two points of a line, in seconds.
const STEP: f64 = 1.0;

/// An SVG.
pub(crate) fn draw(plan: &Plan, outcomes: &[Outcome], emulated: bool) -> String {
    let ends = outcomes
        .iter()
        .filter_map(|outcome| outcome.samples.last())
        .map(|sample| sample.seconds);
    let scale = Scale {
        seconds: ends.fold(60.0, f64::max),
        mib: plan.budget_mib as f64 * 1.1,
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let note = if emulated {
        "; times are those of emulated CPUs"
    } else {
        ""
    };
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"26\" font-size=\"16\" font-weight=\"bold\">Host memory held by {} \
         guests of {} MiB, of {} MiB that there are</text>\n\
         <text x=\"{LEFT}\" y=\"46\" fill=\"#555\">control group of daemon and guests, by the \
         host's kernel; × is where a guest was found to be lost{note}</text>",
        plan.guests, plan.memory_mib, plan.budget_mib
    );
    axes(&mut svg, &scale);
    let y = scale.y(plan.budget_mib as f64);
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#b00\" \
         stroke-dasharray=\"6 4\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" \
         fill=\"#b00\">limit</text>",
        WIDTH - RIGHT,
        WIDTH - RIGHT,
        y - 5.0
    );
    let mut x = LEFT;
    for outcome in outcomes {
        line(&mut svg, &scale, outcome);
        let y = HEIGHT - 18.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.0}\" y1=\"{:.0}\" x2=\"{:.0}\" y2=\"{:.0}\" stroke=\"{}\" \
             stroke-width=\"3\"/>\n<text x=\"{:.0}\" y=\"{y:.0}\">{}</text>",
            y - 4.0,
            x + 20.0,
            y - 4.0,
            colour(outcome.way),
            x + 25.0,
            outcome.way.name()
        );
        x += KEY + LETTER * outcome.way.name().len() as f64;
    }
    svg.push_str("</svg>\n");
    svg
}

struct Scale {
    seconds: f64,
    mib: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds
    }

    fn y(&self, mib: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * mib / self.mib
    }
}

/// For the eye, also one that does not tell red from green (Okabe and Ito).
fn colour(way: Way) -> &'static str {
    match way {
        Way::Nothing => "#999999",
        Way::Reporting => "#e69f00",
        Way::Zram => "#56b4e9",
        Way::Disk => "#cc79a7",
        Way::Tmem => "#009e73",
    }
}

fn axes(svg: &mut String, scale: &Scale) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for mib in (0..)
        .step_by(256)
        .take_while(|mib| f64::from(*mib) <= scale.mib)
    {
        let y = scale.y(f64::from(mib));
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#e5e5e5\"/>\n\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{mib} MiB</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    // About ten of them, at whole minutes or parts of one.
    let step = [15, 30, 60, 120, 300, 600, 1800];
    let step = step
        .into_iter()
        .find(|step| scale.seconds / f64::from(*step) <= 12.0);
    let step = usize::try_from(step.unwrap_or(3600)).unwrap_or(3600);
    for seconds in (0..)
        .step_by(step)
        .take_while(|s| f64::from(*s) <= scale.seconds)
    {
        let x = scale.x(f64::from(seconds));
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#222\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{seconds} s</text>",
            bottom + 4.0,
            bottom + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#222\"/>"
    );
}

fn line(svg: &mut String, scale: &Scale, outcome: &Outcome) {
    let mut points = String::new();
    let mut next = 0.0;
    for sample in &outcome.samples {
        if sample.seconds >= next {
            next = sample.seconds + STEP;
            let (x, y) = (scale.x(sample.seconds), scale.y(mib(sample.held)));
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
    }
    let colour = colour(outcome.way);
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>",
        points.trim_end()
    );
    for loss in &outcome.losses {
        let before = outcome
            .samples
            .iter()
            .rfind(|sample| sample.seconds <= loss.seconds);
        let (x, y) = (
            scale.x(loss.seconds),
            before.map_or(0.0, |sample| mib(sample.held)),
        );
        let y = scale.y(y);
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {:.1}l10 10m0 -10l-10 10\" stroke=\"{colour}\" stroke-width=\"3\"/>",
            x - 5.0,
            y - 5.0
        );
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
        let svg = draw(&Plan::WHOLE, &[lossy(), outcome(Way::Tmem, 4, 100.0)], true);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("l10 10m0 -10l-10 10").count(), 1);
        assert!(svg.contains("emulated"));
        assert!(svg.contains(">virtio-tmem</text>"));
    }
}
