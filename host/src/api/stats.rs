// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The metrics as JSON.

use serde_json::{Map, Value};

use super::Api;
use crate::registry::Machine;
use crate::stats;

/// The metrics of the store, of the host, and of each virtual machine under its name.
pub(super) fn render(api: &Api) -> Map<String, Value> {
    let machines = api.registry.list();
    let mut store = api.store_stats();
    store.clients = machines.len() as u64;
    let vms: Map<String, Value> = machines
        .iter()
        .map(|entry| (entry.name().to_string(), of_vm(&**entry.machine())))
        .collect();
    let host = stats::object(&api.health.metrics());
    let store = stats::of_store(&store);
    let all = [("store", store), ("host", host), ("vms", vms)];
    let all = all.map(|(name, of)| (name.to_owned(), of.into()));
    all.into_iter().collect()
}

fn of_vm(machine: &dyn Machine) -> Value {
    let mut all = stats::of_device(machine.device());
    let connection = machine.connection();
    all.insert("connected".into(), connection.connected.into());
    all.insert("connections".into(), connection.connections.into());
    all.insert("expiries".into(), connection.expiries.into());
    all.into()
}
