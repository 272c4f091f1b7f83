// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The files that a guest and the daemon are started from. `cargo xtask` makes
//! them and names them to the tests in a JSON file.

use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;
use std::path::Path;
use std::path::PathBuf;

/// Names the JSON file.
const VARIABLE: &str = "TMEM_E2E_ASSETS";

/// Where everything is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Assets {
    /// QEMU's program and the arguments that come before all others.
    pub qemu: Vec<PathBuf>,
    /// Directories of QEMU's firmware.
    pub qemu_data: Vec<PathBuf>,
    /// Directory of QEMU's own loadable modules.
    pub qemu_modules: PathBuf,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// The initramfs of a small guest.
    pub initramfs: PathBuf,
    /// The initramfs of a Debian system, where one was made.
    pub debian: Option<PathBuf>,
    /// The daemon's program.
    pub daemon: PathBuf,
    /// Where console logs of failed guests are kept.
    pub logs: PathBuf,
}

impl Assets {
    /// The assets that `cargo xtask` named in the environment.
    ///
    /// # Errors
    /// None are named, or their file cannot be read.
    pub fn from_environment() -> Result<Self> {
        let path = std::env::var_os(VARIABLE).with_context(|| {
            format!("{VARIABLE} is not set: run the end-to-end tests with `cargo xtask test`")
        })?;
        let path = Path::new(&path);
        let text =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes the file that [`Assets::from_environment`] reads.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("cannot encode the assets")?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}
