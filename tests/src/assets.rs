// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The files that a guest and the daemon are started from. `cargo xtask` makes
//! them and names them to the tests in a JSON file.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Where everything is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Assets {
    /// QEMU's program and the arguments that come before all others.
    pub qemu: Vec<PathBuf>,
    /// Directories of QEMU's firmware.
    pub qemu_data: Vec<PathBuf>,
    /// Directory of QEMU's own loadable modules.
    pub qemu_modules: PathBuf,
    /// The guest's kernel, unpacked.
    pub kernel: PathBuf,
    /// The initramfs of a small guest.
    pub initramfs: PathBuf,
    /// The initramfs of a Debian system, where one was made.
    pub debian: Option<PathBuf>,
    /// What is installed on a host, where it was made.
    pub packages: Option<PackageAssets>,
    /// The Debian package for guests without the module, where it was made.
    pub any_guest: Option<PathBuf>,
    /// The daemon's program.
    pub daemon: PathBuf,
    /// What guests of our own VMM need beside, where it was made.
    pub vmm: Option<VmmAssets>,
    /// What guests with disks need, where it was made.
    pub storage: Option<StorageAssets>,
    /// What spills to a disk in a guest, where it was made.
    pub area: Option<AreaAssets>,
    /// Guests of stable Debian kernels, where they were made: by name, `debian12` and
    /// `debian13`, `musl`, whose programs are linked with that, and `debian13-system`, which has
    /// systemd.
    pub stock: BTreeMap<String, StockAssets>,
    /// Prometheus, promtool, valkey-server and valkey-cli, where they were made.
    pub services: Services,
    /// Where console logs of failed guests are kept.
    pub logs: PathBuf,
}

/// What is installed on a host, and what uses it there.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PackageAssets {
    /// A directory of Debian packages of this project.
    pub packages: PathBuf,
    /// A driver in user space, linked statically.
    pub driver: PathBuf,
}

/// What guests of our own VMM need.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct VmmAssets {
    /// The VMM's program, linked statically.
    pub program: PathBuf,
    /// The guest's kernel as Debian packs it, a bzImage.
    pub vmlinuz: PathBuf,
    /// The initramfs of a guest that the VMM and the daemon run in, with both
    /// and all that their guests need (see [`crate::Host`]).
    pub outer: PathBuf,
    /// A disk of an ext4 file system: the root of a small guest.
    pub disk: PathBuf,
}

/// What guests with disks need.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StorageAssets {
    /// The initramfs of a small guest with file systems, drivers and `load`.
    pub initramfs: PathBuf,
    /// What makes and checks file systems on this machine: by name, the
    /// program and the arguments that come before all others.
    pub tools: BTreeMap<String, Vec<PathBuf>>,
}

/// What a guest with disks runs to have an area fail.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AreaAssets {
    /// The daemon's program, linked statically.
    pub daemon: PathBuf,
    /// What starts it and has the area fail, linked statically.
    pub program: PathBuf,
}

/// What a guest with a stable release's kernel is started from, without the module.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StockAssets {
    /// The kernel as Debian packs it, a bzImage.
    pub kernel: PathBuf,
    /// As `uname -r` says it.
    pub release: String,
    /// The initramfs; that of a small Debian guest with `load`, `mke2fs` and `e2fsck`.
    pub initramfs: PathBuf,
}

/// Programs that serve: by name, the program and the arguments that come before all others.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Services(pub BTreeMap<String, Vec<PathBuf>>);

impl Services {
    /// What starts one of them.
    ///
    /// # Errors
    /// It was not made.
    pub fn command(&self, name: &str) -> Result<Command> {
        let words = self.0.get(name).map(Vec::as_slice);
        let [program, arguments @ ..] = words.unwrap_or_default() else {
            bail!("{name} was not made");
        };
        let mut command = Command::new(program);
        command.args(arguments);
        Ok(command)
    }
}

impl Assets {
    /// The environment variable that names the JSON file.
    pub const VARIABLE: &str = "TMEM_E2E_ASSETS";

    /// The environment variable with parameters for each load of the module, beside those that a
    /// test gives it.
    pub const PARAMETERS: &str = "TMEM_E2E_MODULE";

    /// The assets that `cargo xtask` named in the environment.
    ///
    /// # Errors
    /// None are named, or their file cannot be read.
    pub fn from_environment() -> Result<Self> {
        let path = std::env::var_os(Self::VARIABLE).with_context(|| {
            format!(
                "{} is not set: run the end-to-end tests with `cargo xtask test`, benchmarks with \
                 `cargo xtask bench`",
                Self::VARIABLE
            )
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

    /// What guests of our own VMM need.
    ///
    /// # Errors
    /// It was not made.
    pub fn vmm(&self) -> Result<&VmmAssets> {
        self.vmm
            .as_ref()
            .context("the VMM and what its guests need were not made")
    }

    /// What the guest `name` is started from.
    ///
    /// # Errors
    /// It was not made.
    pub fn stock(&self, name: &str) -> Result<&StockAssets> {
        let made = self.stock.get(name);
        made.with_context(|| format!("no guest {name} was made"))
    }

    /// What spills to a disk in a guest.
    ///
    /// # Errors
    /// It was not made.
    pub fn area(&self) -> Result<&AreaAssets> {
        self.area
            .as_ref()
            .context("what spills to a disk in a guest was not made")
    }

    /// What guests with disks need.
    ///
    /// # Errors
    /// It was not made.
    pub fn storage(&self) -> Result<&StorageAssets> {
        self.storage
            .as_ref()
            .context("what guests with disks need was not made")
    }
}
