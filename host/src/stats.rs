// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The metrics as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tmem_store::StoreStats;
use virtio_serve::Latency;
use virtio_tmem::device::Quota;
use virtio_tmem::wire::PAGE_SIZE;

use crate::metrics::{self, Metric};
use crate::personality::VmDevice;

/// A store's metrics.
pub fn of_store(stats: &StoreStats) -> Map<String, Value> {
    let mut all = object(&stats.metrics());
    let pages = stats.persistent_pages.saturating_add(stats.ephemeral_pages);
    all.insert("ratio".into(), ratio(pages, stats.held_bytes));
    all
}

/// A device's metrics: those of its client in the store, and, under
/// `"device"`, what the device itself counts.
pub fn of_device(device: &dyn VmDevice) -> Map<String, Value> {
    let stats = device.client().stats();
    let mut all = object(&stats.metrics());
    let pages = stats.persistent_pages.saturating_add(stats.ephemeral_pages);
    all.insert("ratio".into(), ratio(pages, stats.held_bytes));
    if let Some(pages) = device.swap_pages() {
        all.insert("swap_pages".into(), pages.into());
    }
    all.insert("codec".into(), device.client().compression().name().into());
    let is_credit = matches!(device.quota(), Quota::Credit { .. });
    all.insert("quota_on_credit".into(), is_credit.into());
    all.extend(object(&metrics::of_memory(device.backing())));
    all.extend(object(&metrics::of_pages(&stats)));
    let instance = u128::from_be_bytes(device.instance());
    all.insert("instance".into(), format!("{instance:032x}").into());
    let mut counters = Map::new();
    for sample in device.samples() {
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
    let latencies = device.latencies().into_iter().map(of_latency);
    let latencies: Vec<_> = latencies.collect();
    counters.insert(Latency::FAMILY.into(), latencies.into());
    all.insert("device".into(), counters.into());
    all
}

/// A histogram, with its labels.
fn of_latency(latency: Latency) -> Value {
    let labels = latency
        .labels
        .map(|(name, value)| (name.to_owned(), value.into()));
    let recorded = latency.recorded;
    let mut all = Map::from_iter(labels);
    all.insert("count".into(), recorded.count().into());
    all.insert("sum".into(), recorded.sum.as_secs_f64().into());
    let bucket = |(bound, count): &(Option<Duration>, u64)| {
        let bound = bound.map(|bound| bound.as_secs_f64());
        json!({ "le": bound, "count": count })
    };
    let buckets: Vec<_> = recorded.buckets.iter().map(bucket).collect();
    all.insert("buckets".into(), buckets.into());
    all.into()
}

/// Metrics under their names.
pub fn object(metrics: &[Metric]) -> Map<String, Value> {
    metrics
        .iter()
        .map(|metric| (metric.name.to_owned(), metric.value.into()))
        .collect()
}

/// How many bytes of pages one held byte stands for, with two decimals; null
/// if none is held.
#[allow(clippy::cast_precision_loss, reason = "a metric for people")]
pub fn ratio(pages: u64, held_bytes: u64) -> Value {
    if held_bytes == 0 {
        return Value::Null;
    }
    let bytes = pages.saturating_mul(PAGE_SIZE as u64);
    let ratio = bytes as f64 / held_bytes as f64;
    json!((ratio * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_has_two_decimals_and_needs_something_held() {
        assert_eq!(ratio(0, 0), Value::Null);
        assert_eq!(ratio(3, 4096), json!(3.0));
        assert_eq!(ratio(1, 3 * 4096), json!(0.33));
    }

    #[test]
    fn a_device_is_shown_with_its_client_and_its_own_counters() {
        let device = crate::prometheus::tests::device();
        let all = Value::from(of_device(&device));
        assert_eq!(all["quota_bytes"], 8 << 20);
        assert_eq!(
            (&all["stored_bytes"], &all["freeable_bytes"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(all["swap_pages"], 100);
        assert_eq!(all["ratio"], Value::Null);
        assert_eq!(all["instance"], "07".repeat(16));
        assert_eq!(all["device"]["requests"]["put"], 0);
        assert_eq!(all["device"]["pages_flushed"], 0);
        assert_eq!(all["device"]["request_duration_seconds"], json!([]));
    }

    #[test]
    fn what_the_store_counts_is_exported() {
        let device = crate::prometheus::tests::device();
        let shown = of_device(&device);
        for metric in device.client().stats().metrics() {
            assert_eq!(shown[metric.name], metric.value);
        }
        let store = StoreStats::default();
        let shown = of_store(&store);
        for metric in store.metrics() {
            assert_eq!(shown[metric.name], metric.value);
        }
    }
}
