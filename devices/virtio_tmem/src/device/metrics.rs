// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the device counts. Names are stable.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::fault::Fault;
use super::latency::{Latencies, Served};
use tmem_wire::{Op, Status};
use virtio_serve::{Latency, Notices, Report, Sample};

/// Stable name of an operation.
pub(super) const fn op_name(op: Op) -> &'static str {
    match op {
        Op::CreatePool => "create_pool",
        Op::DestroyPool => "destroy_pool",
        Op::Put => "put",
        Op::Get => "get",
        Op::Flush => "flush",
        Op::FlushObject => "flush_object",
        Op::FlushExtents => "flush_extents",
        Op::GetLimits => "get_limits",
        Op::Relinquish => "relinquish",
    }
}

/// The statuses that can be counted, with their stable names.
const STATUSES: [(Status, &str); 16] = [
    (Status::OK, "ok"),
    (Status::EXISTS, "exists"),
    (Status::MISS, "miss"),
    (Status::QUOTA, "quota"),
    (Status::NO_MEMORY, "no_memory"),
    (Status::FROZEN, "frozen"),
    (Status::MISMATCH, "mismatch"),
    (Status::IO_ERROR, "io_error"),
    (Status::NOT_MEMORY, "not_memory"),
    (Status::UNSUPPORTED, "unsupported"),
    (Status::INVALID, "invalid"),
    (Status::NO_POOL, "no_pool"),
    (Status::POOL_CONFLICT, "pool_conflict"),
    (Status::TOO_MANY_POOLS, "too_many_pools"),
    (Status::TOO_LONG, "too_long"),
    (Status::NO_SHARE, "no_share"),
];

/// A counter per status code.
#[derive(Debug, Default)]
struct ByStatus([AtomicU64; STATUSES.len()]);

impl ByStatus {
    fn add(&self, status: Status, count: u64) {
        let known = STATUSES.iter().position(|(s, _)| *s == status.code());
        if let Some(counter) = known.and_then(|at| self.0.get(at)) {
            counter.fetch_add(count, Relaxed);
        }
    }

    fn of(&self, status: Status) -> u64 {
        let known = STATUSES.iter().position(|(s, _)| *s == status.code());
        known
            .and_then(|at| self.0.get(at))
            .map_or(0, |counter| counter.load(Relaxed))
    }
}

/// Counters of one device, and how long its requests take. They only ever grow.
///
/// | family | label | counts |
/// |---|---|---|
/// | `requests` | `op` | requests that were executed |
/// | `request_status` | `status` | answers by request status |
/// | `put_page_status` | `status` | pages of PUTs by page status |
/// | `get_page_status` | `status` | pages of GETs by page status |
/// | `prior_removed` | | pages of PUTs under whose handle an older page went |
/// | `pages_flushed` | | pages removed by FLUSH, FLUSH_OBJECT, FLUSH_EXTENTS |
/// | `pages_destroyed` | | pages removed by DESTROY_POOL |
/// | `relinquished_bytes` | | memory that the VM gave back, in bytes |
/// | `relinquish_range_status` | `status` | ranges of RELINQUISHes by status |
/// | `events_delivered` | | events that the driver got |
/// | `faults` | `fault` | mistakes of the driver, see [`Fault`] |
#[derive(Debug)]
pub struct Metrics {
    requests: [AtomicU64; Op::ALL.len()],
    request_status: ByStatus,
    put_pages: ByStatus,
    get_pages: ByStatus,
    prior_removed: AtomicU64,
    pages_flushed: AtomicU64,
    pages_destroyed: AtomicU64,
    relinquished_bytes: AtomicU64,
    ranges: ByStatus,
    events_delivered: AtomicU64,
    faults: [AtomicU64; Fault::ALL.len()],
    latencies: Latencies,
    notices: Notices,
}

impl Metrics {
    pub(super) fn new(name: String) -> Self {
        Self {
            requests: Default::default(),
            request_status: ByStatus::default(),
            put_pages: ByStatus::default(),
            get_pages: ByStatus::default(),
            prior_removed: AtomicU64::new(0),
            pages_flushed: AtomicU64::new(0),
            pages_destroyed: AtomicU64::new(0),
            relinquished_bytes: AtomicU64::new(0),
            ranges: ByStatus::default(),
            events_delivered: AtomicU64::new(0),
            faults: [const { AtomicU64::new(0) }; Fault::ALL.len()],
            latencies: Latencies::default(),
            notices: Notices::new(name),
        }
    }

    pub(super) fn set_report(&mut self, report: Report) {
        self.notices.set_report(report);
    }

    pub(super) fn request(&self, op: Op) {
        let at = Op::ALL.iter().position(|known| *known == op);
        if let Some(counter) = at.and_then(|at| self.requests.get(at)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn answer(&self, status: Status) {
        self.request_status.add(status, 1);
    }

    pub(super) fn put_page(&self, status: Status) {
        self.put_pages.add(status, 1);
        if status.prior_removed() {
            self.prior_removed.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn get_page(&self, status: Status) {
        self.get_pages.add(status, 1);
    }

    pub(super) fn flushed(&self, pages: u64) {
        self.pages_flushed.fetch_add(pages, Relaxed);
    }

    pub(super) fn destroyed(&self, pages: u64) {
        self.pages_destroyed.fetch_add(pages, Relaxed);
    }

    pub(super) fn range(&self, status: Status, bytes: u64) {
        self.ranges.add(status, 1);
        if status.is_ok() {
            self.relinquished_bytes.fetch_add(bytes, Relaxed);
        }
    }

    /// Memory in bytes that the VM gave back so far.
    pub fn relinquished_bytes(&self) -> u64 {
        self.relinquished_bytes.load(Relaxed)
    }

    /// A request was served, and that took so long.
    pub fn served(&self, served: Served, took: Duration) {
        self.latencies.record(served, took);
    }

    /// How long requests took, of those kinds of which there were any.
    pub fn latencies(&self) -> impl Iterator<Item = Latency> {
        self.latencies.get()
    }

    /// The driver has got an event.
    pub fn event_delivered(&self) {
        self.events_delivered.fetch_add(1, Relaxed);
    }

    /// Counts a mistake of the driver and, rarely, reports it.
    pub(super) fn fault(&self, fault: Fault) {
        if let Some(counter) = self.faults.get(fault as usize) {
            counter.fetch_add(1, Relaxed);
        }
        self.notices.driver_mistake(fault.name());
    }

    /// How often the driver made this mistake.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults
            .get(fault as usize)
            .map_or(0, |counter| counter.load(Relaxed))
    }

    /// Requests answered with this status.
    pub fn answers(&self, status: Status) -> u64 {
        self.request_status.of(status)
    }

    /// Pages of PUTs answered with this status.
    pub fn put_pages(&self, status: Status) -> u64 {
        self.put_pages.of(status)
    }

    /// Pages of GETs answered with this status.
    pub fn get_pages(&self, status: Status) -> u64 {
        self.get_pages.of(status)
    }

    /// Every counter.
    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        let ops = Op::ALL
            .iter()
            .zip(&self.requests)
            .map(|(op, counter)| Sample::of("requests", "op", op_name(*op), counter));
        let faults = Fault::ALL
            .iter()
            .zip(&self.faults)
            .map(|(fault, counter)| Sample::of("faults", "fault", fault.name(), counter));
        let by_status = |family, counters: &ByStatus| {
            let samples: Vec<_> = STATUSES
                .iter()
                .zip(&counters.0)
                .map(|((_, name), counter)| Sample::of(family, "status", name, counter))
                .collect();
            samples.into_iter()
        };
        ops.chain(by_status("request_status", &self.request_status))
            .chain(by_status("put_page_status", &self.put_pages))
            .chain(by_status("get_page_status", &self.get_pages))
            .chain([
                Sample::of("prior_removed", "", "", &self.prior_removed),
                Sample::of("pages_flushed", "", "", &self.pages_flushed),
                Sample::of("pages_destroyed", "", "", &self.pages_destroyed),
                Sample::of("relinquished_bytes", "", "", &self.relinquished_bytes),
                Sample::of("events_delivered", "", "", &self.events_delivered),
            ])
            .chain(by_status("relinquish_range_status", &self.ranges))
            .chain(faults)
    }
}
