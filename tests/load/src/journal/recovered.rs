// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is there after the power cut.

use crate::content;
use crate::content::CELL;
use crate::content::Claim;
use crate::device;
use crate::journal::THREADS;
use crate::journal::acks::Durable;
use crate::journal::acks_of;
use crate::journal::directory_of;
use crate::journal::path_of;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Bytes that are durable together or not: a sector.
const UNIT: u64 = 512;

/// Wrong files that are told of.
const EXAMPLES: usize = 10;

/// What must be in one file.
#[derive(Debug, Default)]
struct Expected {
    /// The least generation of each unit, by its number.
    parts: BTreeMap<u64, u64>,
    /// The least generation of the whole file, and its length in that.
    whole: Option<(u64, u64)>,
}

/// Compares the files in `directory`, as they are after a power cut, with what
/// was acknowledged on the device `acks`. Gives back how many acknowledgments
/// there were, and sentences about what is wrong.
///
/// # Errors
/// Something cannot be read.
pub fn check(directory: &Path, acks: &Path, seed: u32) -> Result<(u64, Vec<String>)> {
    let device = device::open_to_read(acks)?;
    let (mut count, mut wrong) = (0, Vec::new());
    for number in 0..THREADS {
        let mut files: BTreeMap<u32, Expected> = BTreeMap::new();
        let mut acks = acks_of(&device, seed, number)?;
        while let Some(durable) = acks.next()? {
            count += 1;
            note(&mut files, durable);
        }
        let directory = directory_of(directory, number);
        for (file, expected) in &files {
            let path = path_of(&directory, *file);
            let found = match fs::read(&path) {
                Ok(found) => found,
                Err(error) => {
                    wrong.push(format!("{} is not there: {error}", path.display()));
                    continue;
                }
            };
            if let Some(text) = expected.judge(*file, seed, &found) {
                wrong.push(format!("{}: {text}", path.display()));
            }
        }
    }
    wrong.truncate(EXAMPLES);
    Ok((count, wrong))
}

fn note(files: &mut BTreeMap<u32, Expected>, durable: Durable) {
    match durable {
        Durable::Part {
            file,
            at,
            length,
            generation,
        } => {
            let parts = &mut files.entry(file).or_default().parts;
            for unit in at / UNIT..(at + length) / UNIT {
                parts.insert(unit, generation);
            }
        }
        Durable::Whole {
            file,
            length,
            generation,
        } => files.entry(file).or_default().whole = Some((generation, length)),
    }
}

impl Expected {
    fn judge(&self, file: u32, seed: u32, found: &[u8]) -> Option<String> {
        let own = |claim: &Claim, at: u64| {
            (claim.name.seed, claim.name.file, claim.at) == (seed, file, at)
        };
        if let Some((generation, length)) = self.whole {
            return judge_whole(file, seed, generation, length, found);
        }
        for (unit, generation) in &self.parts {
            let from = usize::try_from(unit * UNIT).ok()?;
            let Some(sector) = found.get(from..from + usize::try_from(UNIT).ok()?) else {
                return Some(format!(
                    "generation {generation} at {from:#x} was acknowledged, but the file has only \
                     {} bytes",
                    found.len()
                ));
            };
            for (number, cell) in sector.chunks(CELL).enumerate() {
                let at = from + number * CELL;
                let fits = content::claim(cell).is_some_and(|claim| {
                    own(&claim, at as u64) && claim.name.generation >= *generation
                });
                if !fits {
                    return Some(format!(
                        "at {at:#x}: generation {generation} was acknowledged, found {}",
                        content::describe(found, at)
                    ));
                }
            }
        }
        None
    }
}

/// A file that was replaced is one generation, whole.
fn judge_whole(file: u32, seed: u32, generation: u64, length: u64, found: &[u8]) -> Option<String> {
    let expected = format!("all {length} bytes of generation {generation} were acknowledged");
    // Too short to say what it is.
    let Some(claim) = content::claim(found) else {
        let short = found.len() < CELL && found.len() as u64 == length;
        let text = format!("{expected}, found {}", content::describe(found, 0));
        return (!short).then_some(text);
    };
    let name = claim.name;
    let mut whole = vec![0; found.len()];
    content::fill(name, 0, &mut whole);
    let is_ours = (name.seed, name.file) == (seed, file) && name.generation >= generation;
    let is_whole = whole == found;
    let fits = name.generation != generation || found.len() as u64 == length;
    (!(is_ours && is_whole && fits)).then(|| {
        format!(
            "{expected}, found {claim}, {} bytes, {}",
            found.len(),
            if is_whole { "whole" } else { "torn" }
        )
    })
}
