// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Metrics as Prometheus text.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write};

use tmem_store::StoreStats;
use virtio_tmem::device::Device;

use crate::heap::Memory;
use crate::metrics::{Kind, Metric, of_memory};

/// The media type of a [`Page`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// What is shown: families by name, because type line, help line and samples
/// of a family belong together. [`Display`] writes it.
#[derive(Clone, Debug, Default)]
pub struct Page(BTreeMap<String, Family>);

#[derive(Clone, Debug, Default)]
struct Family {
    head: String,
    samples: String,
}

impl Page {
    /// Adds a sample of the family that `prefix` and the metric's name give.
    pub fn add(&mut self, prefix: &str, metric: &Metric, labels: &[(&str, &str)]) {
        let (suffix, kind) = match metric.kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
        };
        let name = format!("{prefix}{}{suffix}", metric.name);
        let family = self.0.entry(name.clone()).or_default();
        if family.head.is_empty() {
            family.head = format!("# HELP {name} {}\n# TYPE {name} {kind}\n", metric.help);
        }
        // Writing to a string does not fail.
        let _ = writeln!(family.samples, "{name}{} {}", Labels(labels), metric.value);
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
    pub fn add_device(&mut self, vm: &str, device: &Device) {
        let vm = ("vm", vm);
        for metric in device.client().stats().metrics() {
            self.add("tmem_vm_", &metric, &[vm]);
        }
        for metric in of_memory(device.backing()) {
            self.add("tmem_vm_", &metric, &[vm]);
        }
        for sample in device.metrics().samples() {
            let metric = Metric::counter(sample.family, sample.value, help(sample.family));
            match sample.label {
                "" => self.add("tmem_device_", &metric, &[vm]),
                label => self.add("tmem_device_", &metric, &[vm, (label, sample.key)]),
            }
        }
    }
}

impl Display for Page {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for family in self.0.values() {
            f.write_str(&family.head)?;
            f.write_str(&family.samples)?;
        }
        Ok(())
    }
}

/// A sample's labels, like `{vm="a"}`; nothing if there are none.
struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut before = '{';
        for (name, value) in self.0 {
            write!(f, "{before}{name}=\"")?;
            for c in value.chars() {
                match c {
                    '\\' | '"' => write!(f, "\\{c}")?,
                    '\n' => f.write_str("\\n")?,
                    _ => f.write_char(c)?,
                }
            }
            f.write_char('"')?;
            before = ',';
        }
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_char('}')
    }
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
        "relinquished_bytes" => "Memory that the VM gave back.",
        "relinquish_range_status" => "Ranges of memory given back, by their status.",
        "events_delivered" => "Events that the driver got.",
        "faults" => "Mistakes of the driver, by their name.",
        _ => "A counter of the device.",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tmem_store::{ClientConfig, Store, StoreConfig};
    use virtio_tmem::device::{DeviceConfig, MAX_POOLS};

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
    fn samples_of_a_family_stand_together_under_one_head() {
        let mut page = Page::default();
        for vm in ["a", "b"] {
            page.add("x_", &Metric::counter("n", 1, "Ns."), &[("vm", vm)]);
            page.add("x_", &Metric::gauge("m", 2, "Ms."), &[]);
        }
        let expected = "\
            # HELP x_m Ms.\n# TYPE x_m gauge\nx_m 2\nx_m 2\n\
            # HELP x_n_total Ns.\n# TYPE x_n_total counter\n\
            x_n_total{vm=\"a\"} 1\nx_n_total{vm=\"b\"} 1\n";
        assert_eq!(page.to_string(), expected);
    }

    #[test]
    fn labels_are_escaped() {
        let labels = Labels(&[("vm", "a\"b\\c\nd"), ("op", "put")]);
        assert_eq!(labels.to_string(), r#"{vm="a\"b\\c\nd",op="put"}"#);
    }

    #[test]
    fn every_metric_has_its_own_help() {
        let mut page = Page::default();
        page.add_store(&StoreStats::default());
        page.add_device("vm", &device());
        let text = page.to_string();
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
