// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Metrics as Prometheus reads them, in either of its text formats.

mod format;
mod page;

use tmem_store::StoreStats;
use virtio_serve::Latency;

pub use format::Format;
pub use page::Page;

use crate::heap::Memory;
use crate::http::{Request, Response};
use crate::metrics::{Metric, of_memory, of_pages};
use crate::personality::VmDevice;

/// Prefix of what devices count.
const DEVICE: &str = "tmem_device_";

impl Page {
    /// The answer to `request`, in the format that it asks for.
    pub fn answer(&self, request: &Request) -> Response {
        let format = Format::wanted(&request.accept);
        Response::ok(format.content_type(), self.write(format))
    }

    /// Adds what Prometheus's own clients say of a process, as far as it is of use
    /// here.
    pub fn add_process(&mut self) {
        if let Some(memory) = Memory::of_process() {
            let help = "Resident memory size in bytes.";
            self.add(
                "process_",
                &Metric::gauge("resident_memory_bytes", memory.resident, help),
                &[],
            );
        }
    }

    /// Adds a store's metrics, as `tmem_store_…`.
    pub fn add_store(&mut self, stats: &StoreStats) {
        for metric in stats.metrics() {
            self.add("tmem_store_", &metric, &[]);
        }
    }

    /// Adds the metrics of the virtual machine `vm`: those of its device's
    /// client in the store as `tmem_vm_…`, the device's own counters as
    /// `tmem_device_…`.
    pub fn add_device(&mut self, vm: &str, device: &dyn VmDevice) {
        let vm = ("vm", vm);
        for metric in device.client().stats().metrics() {
            self.add("tmem_vm_", &metric, &[vm]);
        }
        for metric in of_memory(device.backing()) {
            self.add("tmem_vm_", &metric, &[vm]);
        }
        for metric in of_pages(&device.client().stats()) {
            self.add("tmem_vm_", &metric, &[vm]);
        }
        for sample in device.samples() {
            let metric = Metric::counter(sample.family, sample.value, device.help(sample.family));
            match sample.label {
                "" => self.add(DEVICE, &metric, &[vm]),
                label => self.add(DEVICE, &metric, &[vm, (label, sample.key)]),
            }
        }
        let family = format!("{DEVICE}{}", Latency::FAMILY);
        self.add_histograms(&family, Latency::HELP);
        for Latency {
            labels, recorded, ..
        } in device.latencies()
        {
            let labels = [&[vm], labels.as_slice()].concat();
            self.add_histogram(&family, Latency::HELP, &recorded, &labels);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tmem_store::{ClientConfig, Store, StoreConfig};
    use virtio_tmem::device::{Device, DeviceConfig, MAX_POOLS};

    use super::*;

    /// A device that did nothing yet.
    pub(crate) fn device() -> Device {
        let store = Store::new(StoreConfig::with_limit(64 << 20)).unwrap();
        let client = ClientConfig::new("vm", 8 << 20).with_max_pools(MAX_POOLS);
        let config = DeviceConfig::new("vm", [7; 16])
            .with_swap_pages(100)
            .with_request_queues(2);
        Device::new(store.add_client(client).unwrap(), config)
    }

    #[test]
    fn every_metric_has_its_own_help() {
        let mut page = Page::default();
        page.add_store(&StoreStats::default());
        page.add_device("vm", &device());
        let text = page.write(Format::Text);
        for line in [
            "# TYPE tmem_store_held_bytes gauge",
            "tmem_vm_quota_bytes{vm=\"vm\"} 8388608",
            "tmem_device_requests_total{vm=\"vm\",op=\"put\"} 0",
            "tmem_device_pages_flushed_total{vm=\"vm\"} 0",
        ] {
            assert!(text.lines().any(|is| is == line), "no '{line}'");
        }
        assert!(!text.contains("A counter of the device."), "{text}");
    }
}
