// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The metrics for Prometheus.

use tmem_store::ClientStats;

use super::Api;
use super::freeable::Freeable;
use crate::metrics::Metric;
use crate::prometheus::Page;
use crate::registry::Connection;

/// Every metric.
pub(super) fn render(api: &Api) -> Page {
    let mut page = Page::default();
    page.add_process();
    page.add("process_", &api.health.of_process(), &[]);
    page.add_store(&api.store_stats());
    for metric in of_host(&Freeable::of(api))
        .iter()
        .chain(&api.health.metrics())
    {
        page.add("tmem_host_", metric, &[]);
    }
    for entry in api.registry.list() {
        let name = entry.name().as_str();
        page.add_device(name, entry.machine().device());
        for metric in of_front_end(entry.machine().connection()) {
            page.add("tmem_vm_", &metric, &[("vm", name)]);
        }
    }
    for share in api.registry.all_shares() {
        let name = share.name().as_str();
        for metric in of_share(&share.stats()) {
            page.add("tmem_share_", &metric, &[("share", name)]);
        }
    }
    page
}

fn of_share(stats: &ClientStats) -> [Metric; 6] {
    [
        Metric::gauge(
            "quota_bytes",
            stats.quota_bytes,
            "Most bytes held for the share.",
        ),
        Metric::gauge("held_bytes", stats.held_bytes, "Bytes held for the share."),
        Metric::gauge(
            "ephemeral_pages",
            stats.ephemeral_pages,
            "Pages in the share.",
        ),
        Metric::counter(
            "gets",
            stats.gets,
            "Pages asked for by gets from the share.",
        ),
        Metric::counter(
            "get_hits",
            stats.get_hits,
            "Gets that found the page there.",
        ),
        Metric::counter(
            "evicted_pages",
            stats.evicted_pages,
            "Pages of the share evicted to make room.",
        ),
    ]
}

fn of_host(freeable: &Freeable) -> [Metric; 3] {
    [
        Metric::gauge(
            "freeable_bytes",
            freeable.freeable_bytes,
            "Bytes held for ephemeral pages, about: what evicting them gives.",
        ),
        Metric::gauge(
            "promised_bytes",
            freeable.promised_bytes,
            "What the quotas of all virtual machines add up to.",
        ),
        Metric::gauge(
            "promisable_bytes",
            freeable.promisable_bytes,
            "What can be promised to more virtual machines, and kept.",
        ),
    ]
}

fn of_front_end(connection: Connection) -> [Metric; 3] {
    [
        Metric::gauge(
            "connected",
            connection.connected.into(),
            "1 while a front end is connected.",
        ),
        Metric::counter(
            "connections",
            connection.connections,
            "Front ends that connected.",
        ),
        Metric::counter(
            "expiries",
            connection.expiries,
            "Times that the pages were freed because no front end came back.",
        ),
    ]
}
