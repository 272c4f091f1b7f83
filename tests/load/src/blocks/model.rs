// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The model as it is written down, and a disk compared with it.

use crate::blocks::SECTOR;
use crate::blocks::sectors::Allowed;
use crate::blocks::sectors::Sector;
use crate::blocks::sectors::Sectors;
use crate::blocks::sectors::State;
use crate::buffer::Buffer;
use crate::device;
use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Sectors that are read at once.
const CHUNK: u64 = 512;

/// Wrong sectors that are told of.
const EXAMPLES: usize = 10;

/// What every sector of a device must hold.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Model {
    /// Of the load.
    pub seed: u32,
    /// Runs of sectors, from the first on: how many, since which generation,
    /// and what they hold.
    pub runs: Vec<(u64, u64, State)>,
}

impl Model {
    /// Of sectors that nobody changes.
    pub(super) fn of(sectors: &Sectors, seed: u32) -> Self {
        let mut runs: Vec<(u64, u64, State)> = Vec::new();
        for Sector { generation, state } in sectors.before(0, sectors.count()) {
            match runs.last_mut() {
                Some((count, same, like)) if (*same, *like) == (generation, state) => *count += 1,
                _ => runs.push((1, generation, state)),
            }
        }
        Self { seed, runs }
    }

    /// Bytes that it knows about.
    pub fn size(&self) -> u64 {
        self.runs.iter().map(|(count, ..)| count * SECTOR).sum()
    }

    fn sectors(&self) -> impl Iterator<Item = Sector> {
        self.runs.iter().flat_map(|(count, generation, state)| {
            let sector = Sector {
                generation: *generation,
                state: *state,
            };
            (0..*count).map(move |_| sector)
        })
    }
}

/// Compares the disk or image at `path`, from its byte `offset` on, with
/// `model`. Gives back what is wrong: how many sectors, and sentences about
/// the first of them.
///
/// # Errors
/// It cannot be read.
pub fn check(path: &Path, offset: u64, model: &Model) -> Result<(u64, Vec<String>)> {
    let file = device::open_to_read(path)?;
    let size = model.size();
    let mut buffer = Buffer::new(usize::try_from(CHUNK * SECTOR)?);
    let mut sectors = model.sectors();
    let (mut at, mut wrong, mut examples) = (0, 0, Vec::new());
    while at < size {
        let bytes = buffer.first(usize::try_from((size - at).min(CHUNK * SECTOR))?);
        file.read_exact_at(bytes, offset + at)
            .with_context(|| format!("cannot read {}", path.display()))?;
        for found in bytes.chunks(usize::try_from(SECTOR)?) {
            let sector = sectors.next().context("the model ends early")?;
            if let Some(text) = Allowed::settled(sector).judge(model.seed, at, found) {
                wrong += 1;
                if examples.len() < EXAMPLES {
                    examples.push(text);
                }
            }
            at += SECTOR;
        }
    }
    Ok((wrong, examples))
}
