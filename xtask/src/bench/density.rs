// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask bench density`: how many guests fit into a host's memory.

use crate::assets;
use crate::assets::Guests;
use crate::bench;
use crate::exec;
use crate::programs::Profile;
use crate::project;
use anyhow::Result;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use tmem_e2e::Assets;

/// What makes a PNG of an SVG, where it is installed (librsvg).
const CONVERT: &str = "rsvg-convert";

/// Options of `cargo xtask bench density`.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Of `density`: where the report, density.md, and its pictures go
    /// [default: docs].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Of `density`: only these variants of nothing, reporting, zram, disk, tmem.
    #[arg(long, value_name = "VARIANTS")]
    ways: Option<String>,
}

/// Measures it.
pub(super) fn run(options: &Options, quick: bool, json: Option<&Path>) -> Result<()> {
    let made = project::made()?;
    let file = made.join("density-assets.json");
    assets::make(Profile::Release, Guests::Dense)?.write(&file)?;
    let program = bench::program()?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None => project::root().join("docs"),
    };
    let mut bench = Command::new(program);
    bench
        .args(["--only", "density", "--scratch"])
        .arg(&made)
        .arg("--out")
        .arg(&out)
        .env(Assets::VARIABLE, file);
    if quick {
        bench.arg("--quick");
    }
    if let Some(ways) = &options.ways {
        bench.args(["--ways", ways]);
    }
    if let Some(json) = json {
        bench.arg("--json").arg(json);
    }
    exec::shown(&mut bench)?;
    let svg = out.join("pictures/density.svg");
    let png = svg.with_extension("png");
    let mut convert = Command::new(CONVERT);
    convert.arg("--zoom=2").arg("--output").arg(&png).arg(&svg);
    match exec::output(&mut convert) {
        Ok(_) => println!("drew {} and {}", svg.display(), png.display()),
        Err(error) => println!("drew {}, but no PNG: {error:#}", svg.display()),
    }
    Ok(())
}
