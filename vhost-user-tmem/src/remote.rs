// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Remote memory, as the command line names it.

use anyhow::{Context, Result};
use tmem_cli::size;
use tmem_remote::{Settings, Valkey};

use crate::confine::{self, Role};

/// Reads the settings of a cluster.
///
/// # Errors
/// A sentence about the mistake.
pub fn parse(text: &str) -> Result<Settings, String> {
    Settings::parse(text, size::parse)
}

/// Connects to a cluster for a store of `memory_limit` bytes.
///
/// # Errors
/// A sentence, when it cannot be used.
pub fn open(settings: &Settings, memory_limit: u64) -> Result<Valkey> {
    let size = settings.size.unwrap_or(memory_limit.saturating_mul(4));
    let remote = Valkey::open(settings, size, || confine::enter(Role::Remote));
    remote.context("cannot use remote memory")
}
