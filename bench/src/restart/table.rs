// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is kept in the documentation.

use super::outcome::Outcome;
use std::fmt::Write as _;

/// The section. `verdicts` say which targets were met.
pub(super) fn section(
    machine: &str,
    content: &str,
    outcomes: &[Outcome],
    verdicts: &[String],
) -> String {
    let mut text = format!(
        "Made by `cargo xtask bench restart --out docs`, in one run; do not edit. {machine}; {content}.\n\n\
         One driver with 32 requests under way puts and gets pages at random, in runs of 256, and compares them. The daemon gets \
         SIGKILL, and the next one is started as soon as it has ended. The front end does not connect anew. Where all is mapped, every page was \
         got before.\n\n\
         | the daemons | held | pages | ends | until it has ended | started until it serves | for a GiB | pause: median | p99 | max |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for outcome in outcomes {
        // A string takes all that is written to it.
        let _ = writeln!(
            text,
            "| {} | {:.2} GiB | {} | {} | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms |",
            outcome.name(),
            outcome.held(),
            outcome.pages,
            outcome.ends,
            outcome.ended.p50,
            outcome.back.p50,
            outcome.back_per_gib,
            outcome.pause.p50,
            outcome.pause.p99,
            outcome.pause.max
        );
    }
    text.push('\n');
    for verdict in verdicts {
        let _ = writeln!(text, "* {verdict}");
    }
    text.push('\n');
    text
}
