// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! zstd on single pages: levels, and a dictionary made of the same pages.

use std::hint::black_box;

use anyhow::{Context, Result, anyhow};
use tmem_store::{PAGE_SIZE, Page};
use zstd_safe::{CCtx, CDict, DCtx, DDict};

use crate::corpus::is_same_filled;
use crate::report::Report;
use crate::samples::Samples;

const LEVELS: [i32; 6] = [-3, 1, 3, 4, 5, 6];

/// Bytes of the dictionary, and pages that it is made of.
const DICTIONARY: usize = 32 << 10;
const TRAINED_ON: usize = 1024;

/// One of so many pages is trained on, from one end of the content to the other.
fn train(pages: &[&Page]) -> Result<Vec<u8>> {
    let step = (pages.len() / TRAINED_ON).max(1);
    let samples: Vec<_> = pages.iter().step_by(step).map(|page| **page).collect();
    let sizes = vec![PAGE_SIZE; samples.len()];
    let mut dictionary = vec![0; DICTIONARY];
    let len = zstd_safe::train_from_buffer(dictionary.as_mut_slice(), &samples.concat(), &sizes)
        .map_err(error)?;
    dictionary.truncate(len);
    Ok(dictionary)
}

fn error(code: usize) -> anyhow::Error {
    anyhow!("zstd: {}", zstd_safe::get_error_name(code))
}

pub(crate) fn run(sort: &str, pages: &[Page], report: &mut Report) -> Result<()> {
    let pages: Vec<&Page> = pages.iter().filter(|page| !is_same_filled(page)).collect();
    let mut training = Samples::default();
    let dictionary = training.time(|| train(&pages))?;
    report.metric(
        format!("{sort}: training of a dictionary, a page"),
        training.median() / TRAINED_ON as f64,
        "us",
    );
    for level in LEVELS {
        one(
            &format!("{sort}: zstd {level}"),
            &pages,
            level,
            None,
            report,
        )?;
    }
    let name = format!("{sort}: zstd 1, dictionary of {} bytes", dictionary.len());
    one(&name, &pages, 1, Some(&dictionary), report)
}

fn one(
    name: &str,
    pages: &[&Page],
    level: i32,
    dictionary: Option<&[u8]>,
    report: &mut Report,
) -> Result<()> {
    let dictionaries = dictionary.map(|bytes| (CDict::create(bytes, level), DDict::create(bytes)));
    let mut to = CCtx::try_create().context("no memory for zstd")?;
    let mut from = DCtx::try_create().context("no memory for zstd")?;
    let (mut compress, mut decompress) = (Samples::default(), Samples::default());
    let mut kept = 0;
    for page in pages {
        let mut buffer = [0; 2 * PAGE_SIZE];
        let page = black_box(page.as_slice());
        let len = compress.time(|| match &dictionaries {
            Some((dictionary, _)) => {
                to.compress_using_cdict(buffer.as_mut_slice(), page, dictionary)
            }
            None => to.compress(buffer.as_mut_slice(), page, level),
        });
        let len = len.map_err(error)?;
        let bytes = buffer.get(..len).context("zstd wrote beyond its buffer")?;
        let mut back = [0; PAGE_SIZE];
        let bytes = black_box(bytes);
        decompress
            .time(|| match &dictionaries {
                Some((_, dictionary)) => {
                    from.decompress_using_ddict(back.as_mut_slice(), bytes, dictionary)
                }
                None => from.decompress(back.as_mut_slice(), bytes),
            })
            .map_err(error)?;
        kept += len.min(PAGE_SIZE);
    }
    let per_page = kept as f64 / pages.len() as f64;
    report.metric(format!("{name}, bytes a page"), per_page, "B");
    report.metric(format!("{name}, compress, median"), compress.median(), "us");
    report.metric(
        format!("{name}, decompress, median"),
        decompress.median(),
        "us",
    );
    Ok(())
}
