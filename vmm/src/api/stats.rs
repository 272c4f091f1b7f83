// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The counters of all devices.

use serde_json::{Map, Value, json};
use tmem_host::prometheus::Page;
use tmem_host::stats;

use crate::virtio::tmem::TmemInProcess;
use crate::vm::{Tmem, Vm};

/// Every counter: by kind of device and name; the store's under `tmem`.
pub(super) fn json(vm: &Vm) -> Value {
    let mut all = Map::new();
    for device in &vm.reported {
        let kind = all.entry(device.kind).or_insert_with(|| json!({}));
        if let Some(kind) = kind.as_object_mut() {
            let metrics = stats::object(&device.metrics());
            kind.insert(device.name.clone(), metrics.into());
        }
    }
    if let Tmem::InProcess(tmem) = &vm.tmem {
        let store = stats::of_store(&tmem.store().stats());
        all.insert("store".into(), store.into());
        all.insert("tmem".into(), of_tmem(tmem).into());
    }
    all.into()
}

/// The device's counters, and the guest's in the store.
pub(super) fn of_tmem(tmem: &TmemInProcess) -> Map<String, Value> {
    stats::of_device(tmem.device())
}

/// Every counter, for Prometheus.
pub(super) fn page(vm: &Vm) -> Page {
    let mut page = Page::default();
    for device in &vm.reported {
        let prefix = format!("tmem_vmm_{}_", device.kind);
        for metric in device.metrics() {
            page.add(&prefix, &metric, &[("device", &device.name)]);
        }
    }
    if let Tmem::InProcess(tmem) = &vm.tmem {
        page.add_store(&tmem.store().stats());
        page.add_device("guest", tmem.device());
    }
    page
}
