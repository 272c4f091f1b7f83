// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask man`: the programs' man pages and completions for shells. What makes them is
//! `xtask/man`.

use crate::exec;
use crate::programs;
use crate::project;
use anyhow::Context;
use anyhow::Result;

/// `cargo xtask man`.
pub(crate) fn command() -> Result<()> {
    let made = project::made()?;
    for name in ["man", "completions"] {
        let dir = made.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let mut tests = programs::tests();
    tests.args(["--quiet", "--test", "man", "--"]).arg(made);
    exec::shown(&mut tests)
}
