// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The counters of all devices, beside those of the store and of the guest in it.

use serde_json::{Value, json};
use tmem_host::prometheus::Page;
use tmem_host::stats;

use crate::vm::Vm;

/// Every counter: of the control API, and of devices by their kind and name.
pub(super) fn json(vm: &Vm) -> Value {
    let mut all = vm.control.stats();
    for device in &vm.reported {
        let kind = all.entry(device.kind).or_insert_with(|| json!({}));
        if let Some(kind) = kind.as_object_mut() {
            let metrics = stats::object(&device.metrics());
            kind.insert(device.name.clone(), metrics.into());
        }
    }
    all.into()
}

/// Every counter, for Prometheus.
pub(super) fn page(vm: &Vm) -> Page {
    let mut page = vm.control.metrics();
    for device in &vm.reported {
        let prefix = format!("tmem_vmm_{}_", device.kind);
        for metric in device.metrics() {
            page.add(&prefix, &metric, &[("device", &device.name)]);
        }
    }
    page
}
