// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host has, for people.

use std::fmt::Write;

use serde_json::Value;
use tmem_cli::size;

use super::api::{Freeable, Vm};
use super::table::{aligned, brief, perhaps, ratio};

/// A line for each machine.
pub(super) fn list(vms: &[Vm]) -> String {
    if vms.is_empty() {
        return "There is no virtual machine; `tmemctl vm add NAME` adds one.\n".into();
    }
    let heading = [
        "NAME", "STATE", "DEVICE", "QUOTA", "HELD", "STORED", "RATIO", "WEIGHT",
    ];
    let mut rows = vec![heading.map(str::to_string).to_vec()];
    rows.extend(vms.iter().map(|vm| {
        vec![
            vm.name.clone(),
            state(vm).into(),
            vm.personality.clone(),
            brief(vm.quota_bytes),
            brief(vm.held_bytes),
            brief(vm.stored_bytes),
            ratio(vm.stored_bytes, vm.held_bytes),
            vm.weight.to_string(),
        ]
    }));
    aligned(&rows, 3)
}

/// All there is to say of each machine.
pub(super) fn long(vms: &[Vm]) -> String {
    if vms.is_empty() {
        return list(vms);
    }
    let all: Vec<_> = vms.iter().map(one).collect();
    all.join("\n")
}

fn one(vm: &Vm) -> String {
    let mut text = format!("{}\n", vm.name);
    let socket = vm.socket.as_ref();
    let lines = [
        ("state", state(vm).to_owned()),
        (
            "socket",
            socket.map_or_else(
                || "without a path".into(),
                |path| path.display().to_string(),
            ),
        ),
        (
            "set up",
            match (vm.origin.as_str(), vm.kept) {
                ("api", true) => "by the control API, kept over restarts".into(),
                ("api", false) => "by the control API, until the daemon ends".into(),
                ("file", _) => "in a file of the administrator".into(),
                ("service-manager", _) => "by a socket unit of the service manager".into(),
                (other, _) => format!("on the {}", other.replace('-', " ")),
            },
        ),
        ("domain", vm.domain.clone().unwrap_or_else(|| "none".into())),
        (
            "quota",
            match &vm.quota {
                Value::String(text) => {
                    format!("{text}, now {}", size::show(vm.quota_bytes))
                }
                _ => size::show(vm.quota_bytes),
            },
        ),
        (
            "ephemeral",
            format!(
                "{} of {}",
                size::show(vm.ephemeral_held_bytes),
                size::show(vm.ephemeral_quota.unwrap_or(u64::MAX).min(vm.quota_bytes))
            ),
        ),
        ("weight", vm.weight.to_string()),
        ("codec", vm.codec.clone()),
        device(vm),
        ("pools", format!("{} of {}", vm.pools, vm.max_pools)),
        ("grace", format!("{} s", vm.grace)),
        (
            "pages",
            format!(
                "{} persistent, {} ephemeral",
                vm.persistent_pages, vm.ephemeral_pages
            ),
        ),
        ("stored", size::show(vm.stored_bytes)),
        ("held", size::show(vm.held_bytes)),
        ("freeable", size::show(vm.freeable_bytes)),
        ("resident", known(vm.resident_bytes)),
        ("given back", known(vm.given_back_bytes)),
    ];
    for (name, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<10}  {value}");
    }
    text
}

/// Its device, of which that much is to be said.
fn device(vm: &Vm) -> (&'static str, String) {
    match (vm.size, vm.swap_size) {
        (Some(bytes), _) => {
            let label = vm.label.as_deref().unwrap_or_default();
            let header = match vm.swapspace {
                Some(true) => format!("with a swap header, label '{label}'"),
                _ => "without a swap header".into(),
            };
            ("disk", format!("{}, {header}", size::show(bytes)))
        }
        (None, bytes) => ("swap disk", known(bytes)),
    }
}

fn known(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "not known".into(), size::show)
}

/// What is to be known of a machine first.
pub(super) fn state(vm: &Vm) -> &'static str {
    match (vm.connected, vm.frozen) {
        (true, false) => "connected",
        (true, true) => "frozen",
        (false, false) => "waiting",
        (false, true) => "waiting, frozen",
    }
}

/// What the host has left to give.
pub(super) fn freeable(host: &Freeable, vms: &[Vm]) -> String {
    let mut text = String::new();
    for (name, bytes, what) in [
        (
            "limit",
            host.memory_limit_bytes,
            "most that the store holds",
        ),
        ("held", host.held_bytes, "what it holds now"),
        ("free", host.free_bytes, "what it may still take"),
        (
            "freeable",
            host.freeable_bytes,
            "held for ephemeral pages, about",
        ),
        ("promised", host.promised_bytes, "all quotas together"),
        (
            "promisable",
            host.promisable_bytes,
            "left to promise to other virtual machines",
        ),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<10}  {:>12}  {what}", size::show(bytes));
    }
    if vms.is_empty() {
        return text;
    }
    let heading = [
        "NAME",
        "RESIDENT",
        "STORED",
        "HELD",
        "FREEABLE",
        "GIVEN BACK",
    ];
    let mut rows = vec![heading.map(str::to_string).to_vec()];
    rows.extend(vms.iter().map(|vm| {
        vec![
            vm.name.clone(),
            perhaps(vm.resident_bytes),
            brief(vm.stored_bytes),
            brief(vm.held_bytes),
            brief(vm.freeable_bytes),
            perhaps(vm.given_back_bytes),
        ]
    }));
    text.push('\n');
    text + &aligned(&rows, 1)
}
