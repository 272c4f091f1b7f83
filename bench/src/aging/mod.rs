// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a live page costs as the store ages: pages are put and freed in the same way
//! in the store and in zram, and what each holds is compared after each step.
//!
//! Densities do not depend on the machine's load, but for what the store has not yet
//! compressed when the wait for it ends.

mod clock;
mod content;
mod heap;
mod layout;
mod pattern;
mod plot;
mod row;
mod run;
mod section;
mod settle;
mod state;
mod steps;
mod subject;
mod table;

use crate::aging::content::Content;
use crate::aging::pattern::Codecs;
use crate::aging::pattern::PATTERNS;
use crate::aging::row::Row;
use crate::aging::run::Run;
use crate::aging::section::About;
use crate::document;
use crate::report::Report;
use crate::report::load;
use crate::report::write_json;
use crate::zram::Zram;
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Bytes held with LZ4 alone, at most this many times those of zram after compaction.
const TARGET: f64 = 1.03;

const PAGES: u64 = 24_576;
const QUICK_PAGES: u64 = 2048;

/// Options of `cargo xtask bench aging`.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Of aging: what is freed and put again follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs all patterns with up to `pages` pages each; writes a section of the document in
/// `docs`, and the rows to `json`, too.
pub(crate) fn run(
    args: &Args,
    pages: Option<u64>,
    quick: bool,
    docs: Option<&Path>,
    json: Option<&Path>,
) -> Result<()> {
    let start = Instant::now();
    let pages = pages.unwrap_or(if quick { QUICK_PAGES } else { PAGES });
    let pages = usize::try_from(pages)?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "seed: {}; kernel: {}; load: {}",
        args.seed,
        kernel.trim(),
        load().trim()
    );
    let content = Content::collect(pages)?;
    println!("{}", content.describe());
    let about = About::new(args.seed, content.describe());
    let mut report = Report::default();
    // Tried once, so that all patterns are beside it or none is.
    let zram = Zram::create(1).map(drop);
    if let Err(why) = &zram {
        report.note(format!("no zram beside it: {why:#}"));
    }
    let mut rows = Vec::new();
    let both = [Codecs::Lz4, Codecs::Cold];
    for what in PATTERNS
        .iter()
        .flat_map(|it| both.map(|codecs| (it, codecs)))
    {
        let (pattern, codecs) = what;
        println!(
            "running: {}, clients: {}, {codecs:?}",
            pattern.name, pattern.clients
        );
        let mut run = Run::new(what, &content, pages, args.seed, zram.is_ok())?;
        rows.extend(run.rows()?);
    }
    if quick {
        report
            .note("indicative only, a quick run: fixed costs of a client weigh much on few pages");
    }
    if rows.iter().all(|row| row.moved_bytes.is_none()) {
        report.note("moved: this store does not count it");
    }
    for row in &rows {
        judge(row, &mut report);
    }
    println!(
        "\nBytes held for each live page. The store's bookkeeping is included, zram's table is \
         not. zram is compacted after each step.\n\n{}",
        table::tables(&rows)
    );
    report.print_verdicts();
    println!(
        "every page of the store was right; {} s in all",
        start.elapsed().as_secs()
    );
    if let Some(docs) = docs {
        let text = about.text(&rows, report.verdicts());
        document::update(docs, "aging", &text, &plot::draw(&rows)?)?;
    }
    match json {
        Some(path) => write_json(path, &rows),
        None => Ok(()),
    }
}

fn judge(row: &Row, report: &mut Report) {
    let name = format!("{}, {}", row.title(), row.after);
    if row.deferred_pages > 0 {
        report.note(format!(
            "{name}: {} pages were not compressed yet",
            row.deferred_pages
        ));
    }
    if let (Some(ratio), Some(target)) = (row.beside_zram_compacted, row.target) {
        let what = format!("{name}: beside zram compacted");
        report.target_at_most(&what, ratio, target);
    }
}
