// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The counters as Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Control;
use super::figures::{Figure, Kind, of_client, of_store};

/// Families by name: type line, help line and samples belong together.
#[derive(Default)]
struct Page(BTreeMap<String, Family>);

#[derive(Default)]
struct Family {
    head: String,
    samples: String,
}

impl Page {
    /// Adds a sample. `labels` is empty or like `{vm="a"}`.
    fn add(&mut self, prefix: &str, figure: &Figure, labels: &str) {
        let (suffix, kind) = match figure.kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
        };
        let name = format!("{prefix}{}{suffix}", figure.name);
        let family = self.0.entry(name.clone()).or_default();
        if family.head.is_empty() {
            family.head = format!("# HELP {name} {}\n# TYPE {name} {kind}\n", figure.help);
        }
        // Writing to a string does not fail.
        let _ = writeln!(family.samples, "{name}{labels} {}", figure.value);
    }
}

/// Every counter of the daemon. VM names need no escaping: they are letters,
/// digits, '-', '_' and '.'.
pub(super) fn render(control: &Control) -> String {
    let mut page = Page::default();
    for figure in of_store(&control.store.stats()) {
        page.add("tmem_store_", &figure, "");
    }
    for vm in &control.vms {
        let labels = format!("{{vm=\"{}\"}}", vm.name());
        for figure in of_client(&vm.device().client().stats()) {
            page.add("tmem_vm_", &figure, &labels);
        }
        for figure in of_front_end(vm) {
            page.add("tmem_vm_", &figure, &labels);
        }
        for sample in vm.device().metrics().samples() {
            let labels = match sample.label {
                "" => labels.clone(),
                label => format!("{{vm=\"{}\",{label}=\"{}\"}}", vm.name(), sample.key),
            };
            let figure = Figure {
                name: sample.family,
                kind: Kind::Counter,
                help: help(sample.family),
                value: sample.value,
            };
            page.add("tmem_device_", &figure, &labels);
        }
    }
    page.0
        .into_values()
        .map(|family| family.head + &family.samples)
        .collect()
}

/// What a family of device counters counts.
fn help(family: &str) -> &'static str {
    match family {
        "requests" => "Well-formed requests, by operation.",
        "request_status" => "Answers, by the status of the request.",
        "put_page_status" => "Pages of PUTs, by their status.",
        "get_page_status" => "Pages of GETs, by their status.",
        "prior_removed" => "Pages of PUTs under whose handle an older page went.",
        "pages_flushed" => "Pages removed by flushes.",
        "pages_destroyed" => "Pages removed with their pool.",
        "events_delivered" => "Events that the driver got.",
        "faults" => "Mistakes of the driver, by their name.",
        _ => "A counter of the device.",
    }
}

fn of_front_end(vm: &crate::vm::Vm) -> [Figure; 3] {
    [
        Figure {
            name: "connected",
            kind: Kind::Gauge,
            help: "1 while a front end is connected.",
            value: u64::from(vm.is_connected()),
        },
        Figure {
            name: "connections",
            kind: Kind::Counter,
            help: "Front ends that connected.",
            value: vm.connections(),
        },
        Figure {
            name: "expiries",
            kind: Kind::Counter,
            help: "Times that the pages were freed because no front end came back.",
            value: vm.expiries(),
        },
    ]
}
