// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Holds the arrows: which crate may know which ([`crates`]), and that no module
//! of a crate knows, by way of others, itself ([`modules`]).

mod crates;
mod modules;
mod paths;
mod store;

use crate::project;
use std::path::PathBuf;

/// A crate of the workspace, as `cargo metadata` tells of it.
#[derive(serde::Deserialize)]
struct Package {
    name: String,
    id: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

/// What a manifest depends on.
#[derive(serde::Deserialize)]
struct Dependency {
    name: String,
    /// `None`: to be built; else for tests or build scripts.
    kind: Option<String>,
    /// Only with a feature.
    optional: bool,
    /// There for crates of the workspace.
    path: Option<PathBuf>,
}

#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
}

/// The workspace's crates.
fn workspace() -> Vec<Package> {
    let output = project::cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata fails");
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    let members = metadata.workspace_members;
    let mut packages = metadata.packages;
    packages.retain(|package| members.contains(&package.id));
    packages
}
