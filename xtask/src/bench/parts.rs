// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask bench costs` and `noisy`: the daemon beside itself; and `spill`, `remote`, `saved`, `shared` and `scale`: the store.

use crate::assets;
use crate::bench;
use crate::exec;
use crate::programs;
use crate::programs::Profile;
use crate::project;
use crate::setup;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;
use tmem_e2e::Cluster;

/// Measures one of them.
pub(super) fn run(part: &str, options: &bench::Options) -> Result<()> {
    println!("building the daemon");
    // First: the ordinary one has its place afterwards.
    let untimed = match part {
        "costs" => Some(untimed()?),
        _ => None,
    };
    let daemon = programs::daemon(Profile::Release)?;
    let mut bench = Command::new(bench::program()?);
    bench.args(["--only", part]).arg("--daemon").arg(daemon);
    if let Some(untimed) = untimed {
        bench.arg("--untimed").arg(untimed);
    }
    if let Some(pages) = options.pages {
        bench.args(["--pages", &pages.to_string()]);
    }
    // Until the end.
    let cluster = match part {
        "remote" => {
            let setup = setup::ensure(false)?;
            let valkey = assets::valkey(&setup.cache, &setup.versions)?;
            Some(Cluster::start(&valkey)?)
        }
        _ => None,
    };
    if let Some(cluster) = &cluster {
        bench.arg("--remote").arg(cluster.url("namespace=bench"));
    }
    if options.quick {
        bench.arg("--quick");
    }
    if let Some(json) = &options.json {
        bench.arg("--json").arg(json);
    }
    exec::shown(&mut bench)
}

/// Builds the daemon without histograms of latencies.
fn untimed() -> Result<PathBuf> {
    let mut cargo = project::cargo();
    cargo.args(["build", "--release", "--package", "vhost-user-tmem"]);
    cargo.args(["--features", "untimed"]);
    exec::shown(&mut cargo)?;
    let built = project::target()?.join("release/vhost-user-tmem");
    let kept = built.with_file_name("vhost-user-tmem-untimed");
    std::fs::copy(&built, &kept).with_context(|| format!("cannot make {}", kept.display()))?;
    Ok(kept)
}
