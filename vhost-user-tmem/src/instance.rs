// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Names for sets of pools.

use anyhow::{Context, Result};

/// A new instance id.
pub(crate) fn new() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).context("cannot get random numbers for an instance id")?;
    Ok(id)
}
