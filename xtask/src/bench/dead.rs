// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask bench dead`: pages that the store has and no guest uses any more.

use crate::e2e;
use crate::exec;
use crate::programs::Profile;
use anyhow::Result;

/// Measures it, by the tests of it.
pub(super) fn run() -> Result<()> {
    let mut tests = e2e::tests(Profile::Release, Some("blk::dead"))?;
    exec::shown(tests.args(["--include-ignored", "--nocapture"]))
}
