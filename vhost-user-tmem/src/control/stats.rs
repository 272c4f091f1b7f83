// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The counters as JSON.

use serde_json::{Map, Value, json};
use tmem_host::stats;

use super::Control;
use crate::vm::Vm;

/// The store's metrics and each VM's, under its name.
pub(super) fn render(control: &Control) -> Value {
    let vms: Map<_, _> = control
        .vms
        .iter()
        .map(|vm| (vm.name().to_owned(), of_vm(vm)))
        .collect();
    let mut store = control.store.stats();
    store.clients = control.vms.len() as u64;
    json!({ "store": stats::of_store(&store), "vms": vms })
}

/// One VM's metrics.
pub(super) fn of_vm(vm: &Vm) -> Value {
    let mut all = stats::of_device(vm.device());
    all.insert("connected".into(), vm.is_connected().into());
    all.insert("connections".into(), vm.connections().into());
    all.insert("expiries".into(), vm.expiries().into());
    all.into()
}
