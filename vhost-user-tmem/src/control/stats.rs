// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The counters as JSON.

use serde_json::{Map, Value, json};
use virtio_tmem::wire::PAGE_SIZE;

use super::Control;
use super::figures::{Figure, of_client, of_store};
use crate::vm::Vm;

/// The store's figures and each VM's, under its name.
pub(super) fn render(control: &Control) -> String {
    let vms: Map<_, _> = control
        .vms
        .iter()
        .map(|vm| (vm.name().to_owned(), of_vm(vm)))
        .collect();
    let mut stats = control.store.stats();
    stats.clients = control.vms.len() as u64;
    let mut store = object(&of_store(&stats));
    let pages = stats.persistent_pages.saturating_add(stats.ephemeral_pages);
    let bytes = pages.saturating_mul(PAGE_SIZE as u64);
    store.insert("ratio".into(), ratio(bytes, stats.held_bytes));
    let page = json!({ "store": store, "vms": vms });
    format!("{page:#}\n")
}

/// One VM's figures.
pub(super) fn of_vm(vm: &Vm) -> Value {
    let device = vm.device();
    let stats = device.client().stats();
    let mut all = object(&of_client(&stats));
    let pages = stats.persistent_pages.saturating_add(stats.ephemeral_pages);
    let bytes = pages.saturating_mul(PAGE_SIZE as u64);
    all.insert("ratio".into(), ratio(bytes, stats.held_bytes));
    all.insert("connected".into(), vm.is_connected().into());
    all.insert("connections".into(), vm.connections().into());
    all.insert("expiries".into(), vm.expiries().into());
    all.insert("swap_pages".into(), device.swap_pages().into());
    let instance = u128::from_be_bytes(device.config().instance);
    all.insert("instance".into(), format!("{instance:032x}").into());
    let mut counters = Map::new();
    for sample in device.metrics().samples() {
        match sample.label {
            "" => {
                counters.insert(sample.family.into(), sample.value.into());
            }
            _ => {
                let family = counters.entry(sample.family).or_insert_with(|| json!({}));
                if let Some(family) = family.as_object_mut() {
                    family.insert(sample.key.into(), sample.value.into());
                }
            }
        }
    }
    all.insert("device".into(), counters.into());
    all.into()
}

fn object(figures: &[Figure]) -> Map<String, Value> {
    figures
        .iter()
        .map(|figure| (figure.name.to_owned(), figure.value.into()))
        .collect()
}

/// How many bytes of pages one held byte stands for; null if none is held.
#[allow(
    clippy::cast_precision_loss,
    reason = "a figure for people, with two decimals"
)]
fn ratio(pages: u64, held: u64) -> Value {
    if held == 0 {
        return Value::Null;
    }
    let ratio = pages as f64 / held as f64;
    json!((ratio * 100.0).round() / 100.0)
}
