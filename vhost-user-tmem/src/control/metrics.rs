// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The counters as Prometheus text.

use tmem_host::metrics::Metric;
use tmem_host::prometheus::Page;

use super::Control;
use crate::vm::Vm;

/// Every counter of the daemon.
pub(super) fn render(control: &Control) -> Page {
    let mut page = Page::default();
    page.add_process();
    page.add_store(&control.store.stats());
    for vm in &control.vms {
        page.add_device(vm.name(), vm.device());
        for metric in of_front_end(vm) {
            page.add("tmem_vm_", &metric, &[("vm", vm.name())]);
        }
    }
    page
}

fn of_front_end(vm: &Vm) -> [Metric; 3] {
    [
        Metric::gauge(
            "connected",
            u64::from(vm.is_connected()),
            "1 while a front end is connected.",
        ),
        Metric::counter(
            "connections",
            vm.connections(),
            "Front ends that connected.",
        ),
        Metric::counter(
            "expiries",
            vm.expiries(),
            "Times that the pages were freed because no front end came back.",
        ),
    ]
}
