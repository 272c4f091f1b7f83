// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where this checkout is, and Cargo run in it.

use anyhow::Context;
use anyhow::Result;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The checkout's top directory.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Cargo's target directory: this program lies in a profile's directory there.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let target = program.ancestors().nth(2);
    target
        .map(Path::to_path_buf)
        .with_context(|| format!("{} lies in no target directory", program.display()))
}

/// A directory for what the commands make out of the checkout.
pub(crate) fn made() -> Result<PathBuf> {
    let dir = target()?.join("tmem");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// The Cargo that runs us, started in the checkout.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(root());
    // The package's own variables are this program's, not its children's.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}
