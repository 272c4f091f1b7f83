// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which kernels Debian's stable releases are installed with in virtual machines.

use crate::apt::Apt;
use crate::cache::Cache;
use crate::roots;
use crate::roots::Root;
use crate::versions;
use crate::versions::Answer;
use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// The suites, and what the tests call their guests.
pub(crate) const SUITES: [(&str, &str); 2] = [("bookworm", "debian12"), ("trixie", "debian13")];

/// The package that depends on a suite's kernel for virtual machines.
const META: &str = "linux-image-cloud-amd64";
const PREFIX: &str = "linux-image-";

/// Which kernels the mirror has.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Kernels {
    mirror: String,
    /// By suite.
    kernels: BTreeMap<String, Kernel>,
}

/// The kernel of a suite.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Kernel {
    /// As `uname -r` says it.
    release: String,
    /// The version of its package.
    package: String,
}

impl Answer for Kernels {
    fn mirror(&self) -> &str {
        &self.mirror
    }
}

impl Kernels {
    /// The current ones; asks the mirror once a day.
    pub(crate) fn current(cache: &Cache, mirror: &str) -> Result<Self> {
        versions::remembered(cache, "stock-versions.json", (mirror, false), || {
            let ask = |(suite, _): (&str, _)| -> Result<(String, Kernel)> {
                let apt = Apt::update_suite(cache, mirror, suite)?;
                let meta = apt.candidate(META)?;
                let release = versions::release_after(PREFIX, meta.field("Depends")?)?;
                let image = apt.candidate(&format!("{PREFIX}{release}"))?;
                let package = image.field("Version")?.to_string();
                Ok((suite.to_string(), Kernel { release, package }))
            };
            Ok(Self {
                mirror: mirror.to_string(),
                kernels: SUITES.map(ask).into_iter().collect::<Result<_>>()?,
            })
        })
    }

    /// The cache's names of their roots.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |(suite, kernel): (&String, &Kernel)| {
            roots::stock_name(suite, &kernel.image(), &kernel.package)
        };
        self.kernels.iter().map(name).collect()
    }
}

impl Kernels {
    /// The release of the kernel of `suite`, and the root that it is in.
    pub(crate) fn root(&self, cache: &Cache, suite: &str) -> Result<(&str, Root)> {
        let kernel = self.kernels.get(suite);
        let kernel = kernel.with_context(|| format!("there is no kernel of {suite}"))?;
        let from = (self.mirror.as_str(), suite);
        let root = roots::stock(cache, from, &kernel.image(), &kernel.package)?;
        Ok((&kernel.release, root))
    }
}

impl Kernel {
    fn image(&self) -> String {
        format!("{PREFIX}{}", self.release)
    }
}
