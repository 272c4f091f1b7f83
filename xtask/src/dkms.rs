// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask dkms`: the module in DKMS, on a Debian 13 that gets a kernel
//! without Rust metadata and then the metadata. In a copy of the build root
//! that vanishes.

use crate::exec;
use crate::headers;
use crate::project;
use crate::setup;
use crate::setup::Setup;
use crate::sources;
use anyhow::Context;
use anyhow::Result;
use std::fs;

/// What is done there.
const SCRIPT: &str = "tests/dkms/check";

/// `cargo xtask dkms`.
pub(crate) fn command() -> Result<()> {
    check(&setup::ensure(false)?)
}

/// Fails unless apt, DKMS and `make install` go well with the module.
pub(crate) fn check(setup: &Setup) -> Result<()> {
    let Setup {
        cache,
        build,
        versions,
        ..
    } = setup;
    let metadata = cache.path(&headers::rust_headers_name(versions)?);
    let work = project::made()?.join("dkms");
    if work.exists() {
        fs::remove_dir_all(&work).context("cannot remove what the last run left")?;
    }
    let sources = project::root().join("guest");
    sources::copy_tree(&sources, &sources::files(&sources)?, &work.join("guest"))?;
    for (from, to) in [
        (project::root().join(SCRIPT), "check"),
        (headers::package(&metadata)?, "metadata.deb"),
    ] {
        fs::copy(&from, work.join(to))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    let script = format!("sh /mnt/check {}", versions.kernel);
    let log = cache.log("dkms");
    let mut run = build.passing_script(&work, &script);
    exec::logged("dkms", &mut run, &log, |line| {
        line.strip_prefix("== ").map(str::to_string)
    })
}
