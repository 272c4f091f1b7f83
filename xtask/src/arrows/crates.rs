// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which crate may know which.

use super::Package;
use super::workspace;
use std::collections::BTreeSet;

/// The workspace's crates, each beside those of the workspace that it may depend on.
/// Dependencies of tests alone do not count. An arrow that is used no more goes.
const ARROWS: &[(&str, &[&str])] = &[
    ("tmem-wire", &[]),
    ("tmem-store", &[]),
    ("tmem-remote", &["tmem-store"]),
    ("virtio-serve", &[]),
    ("virtio-tmem", &["tmem-wire", "tmem-store", "virtio-serve"]),
    ("virtio-blk-tmem", &["tmem-store", "virtio-serve"]),
    ("tmem-cli", &[]),
    (
        "tmem-host",
        &[
            "tmem-cli",
            "tmem-store",
            "virtio-blk-tmem",
            "virtio-serve",
            "virtio-tmem",
        ],
    ),
    (
        "vhost-user-tmem",
        &[
            "tmem-cli",
            "tmem-host",
            "tmem-remote",
            "tmem-store",
            "virtio-tmem",
        ],
    ),
    (
        "tmem-vmm",
        &[
            "tmem-cli",
            "tmem-host",
            "tmem-store",
            "virtio-blk-tmem",
            "virtio-tmem",
        ],
    ),
    ("tmemctl", &["tmem-cli"]),
    // What follows is not shipped.
    ("tmem-agent", &[]),
    ("tmem-driver", &["tmem-agent"]),
    ("tmem-load", &[]),
    ("tmem-work", &[]),
    ("tmem-counter", &[]),
    ("tmem-probe", &["tmem-work"]),
    ("tmem-states", &["tmem-states-macros"]),
    ("tmem-states-macros", &[]),
    ("tmem-e2e", &["tmem-agent", "tmem-load"]),
    (
        "tmem-bench",
        &[
            "tmem-agent",
            "tmem-e2e",
            "tmem-host",
            "tmem-probe",
            "tmem-remote",
            "tmem-store",
            "tmem-work",
            "virtio-serve",
            "virtio-tmem",
        ],
    ),
    ("xtask", &["tmem-e2e"]),
];

/// A crate that uses this is a program, or a part of several.
const OF_PROGRAMS: &[&str] = &["anyhow", "clap", "env_logger", "httparse", "log", "serde"];

/// Other people's crates that these must not depend on.
const KEPT_OUT: &[(&str, &[&str])] = &[
    ("tmem-store", OF_PROGRAMS),
    (
        "tmem-store",
        &["vm-memory", "virtio-queue", "virtio-bindings"],
    ),
    ("virtio-serve", OF_PROGRAMS),
    ("virtio-tmem", OF_PROGRAMS),
    ("virtio-blk-tmem", OF_PROGRAMS),
    (
        "tmem-cli",
        &["vm-memory", "virtio-queue", "serde", "httparse"],
    ),
    ("tmemctl", &["vm-memory", "virtio-queue", "httparse", "log"]),
];

/// Other people's crates that only this one depends on.
const KEPT_IN: &[(&str, &str)] = &[
    // The API of operators is in one place.
    ("httparse", "tmem-host"),
    ("env_logger", "tmem-cli"),
];

/// What `package` depends on, apart from its tests.
fn dependencies(package: &Package, ours: bool) -> BTreeSet<&str> {
    let dependencies = package.dependencies.iter();
    dependencies
        .filter(|to| to.kind.as_deref() != Some("dev") && to.path.is_some() == ours)
        .map(|to| to.name.as_str())
        .collect()
}

#[test]
fn crates_know_only_those_that_they_may() {
    let workspace = workspace();
    let names: BTreeSet<_> = workspace.iter().map(|package| &*package.name).collect();
    let listed: BTreeSet<_> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, names, "crates without a line, or lines without one");
    for package in &workspace {
        let (_, may) = ARROWS
            .iter()
            .find(|(name, _)| *name == package.name)
            .unwrap();
        let may: BTreeSet<_> = may.iter().copied().collect();
        assert_eq!(dependencies(package, true), may, "{}", package.name);
    }
}

#[test]
fn the_wire_format_depends_on_nothing() {
    let workspace = workspace();
    let wire = workspace.iter().find(|package| package.name == "tmem-wire");
    assert_eq!(wire.unwrap().dependencies.len(), 0);
}

#[test]
fn the_device_needs_only_what_is_below_it() {
    let workspace = workspace();
    let device = workspace
        .iter()
        .find(|package| package.name == "virtio-tmem");
    let needed: Vec<_> = device
        .unwrap()
        .dependencies
        .iter()
        .filter(|to| to.kind.is_none() && !to.optional)
        .map(|to| &*to.name)
        .collect();
    // And the hash that pages of verified shares are named by.
    let wanted = ["sha2", "tmem-store", "tmem-wire", "virtio-serve"];
    assert_eq!(needed, wanted);
    // Without virtqueues, there is nothing of the rust-vmm crates.
    let shared = workspace
        .iter()
        .find(|package| package.name == "virtio-serve");
    let mut needed = shared.unwrap().dependencies.iter();
    assert!(needed.all(|to| to.optional || to.kind.is_some()));
}

#[test]
fn what_is_kept_out_is_out() {
    let workspace = workspace();
    for (name, kept_out) in KEPT_OUT {
        let package = workspace.iter().find(|package| package.name == *name);
        let found = dependencies(package.unwrap(), false);
        for other in *kept_out {
            assert!(!found.contains(other), "{name} depends on {other}");
        }
    }
}

#[test]
fn what_is_kept_in_is_in_one_crate() {
    let workspace = workspace();
    for (kept_in, only) in KEPT_IN {
        let found: Vec<_> = workspace
            .iter()
            .filter(|package| dependencies(package, false).contains(kept_in))
            .map(|package| &*package.name)
            .collect();
        assert_eq!(found, [*only], "{kept_in}");
    }
}
