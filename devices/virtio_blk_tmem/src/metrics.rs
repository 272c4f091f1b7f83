// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the disk counts. Names are stable.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tmem_store::Refused;
use virtio_serve::{Histogram, Latency, Notices, Report, Sample};

use crate::fault::Fault;
use crate::wire::Status;

/// Declares an enumeration whose values are counted, with their names.
macro_rules! counted {
    ($(#[$doc:meta])* $kind:ident: $($name:ident = $label:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $kind {
            $($name,)*
        }

        impl $kind {
            const NAMES: &[&str] = &[$($label,)*];
        }
    };
}

counted! {
    /// What a request was for.
    Op:
    Read = "read",
    Write = "write",
    Flush = "flush",
    Discard = "discard",
    WriteZeroes = "write_zeroes",
    GetId = "get_id",
}

counted! {
    /// Where a block that was read came from.
    Read:
    Hit = "hit",
    Zeros = "zeros",
    SwapHeader = "swap_header",
    Lost = "lost",
}

counted! {
    /// What became of a block that was written.
    Written:
    Kept = "kept",
    Zeros = "zeros",
    Quota = "quota",
    NoMemory = "no_memory",
    Frozen = "frozen",
    Lost = "lost",
    Gone = "gone",
}

impl From<Refused> for Written {
    fn from(why: Refused) -> Self {
        match why {
            Refused::Quota => Self::Quota,
            Refused::Frozen => Self::Frozen,
            Refused::PoolGone => Self::Gone,
            // No memory, or a reason that is not known here.
            _ => Self::NoMemory,
        }
    }
}

const OPS: usize = Op::NAMES.len();
const STATUSES: usize = Status::ALL.len();

/// A request that was answered: what [`Metrics::served`] is to know of it.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    pub(crate) op: Op,
    pub(crate) status: Status,
}

/// Counters of one disk, and how long its requests take. They only ever grow.
///
/// | family | label | counts |
/// |---|---|---|
/// | `requests` | `op` | requests of a known type |
/// | `request_status` | `status` | answers by status |
/// | `blocks_read` | `from` | blocks that were read, wholly or in part |
/// | `blocks_written` | `result` | blocks that were written, wholly or in part, or refused |
/// | `partial_writes` | | writes of a part of a block: it was read, changed and put back |
/// | `blocks_discarded` | | blocks that a discard removed |
/// | `blocks_zeroed` | | blocks that a write of zeros removed |
/// | `blocks_destroyed` | | blocks that the host removed |
/// | `faults` | `fault` | mistakes of the driver, see [`Fault`] |
#[derive(Debug)]
pub struct Metrics {
    requests: [AtomicU64; OPS],
    request_status: [AtomicU64; STATUSES],
    read: [AtomicU64; Read::NAMES.len()],
    written: [AtomicU64; Written::NAMES.len()],
    partial_writes: AtomicU64,
    discarded: AtomicU64,
    zeroed: AtomicU64,
    destroyed: AtomicU64,
    faults: [AtomicU64; Fault::ALL.len()],
    latencies: [[Histogram; STATUSES]; OPS],
    notices: Notices,
}

impl Metrics {
    /// What each family counts, in a sentence.
    pub const HELP: [(&'static str, &'static str); 9] = [
        ("requests", "Well-formed requests, by operation."),
        ("request_status", "Answers, by the status of the request."),
        (
            "blocks_read",
            "Blocks of a disk that were read, by where they came from.",
        ),
        (
            "blocks_written",
            "Blocks of a disk that were written or refused, by what became of them.",
        ),
        (
            "partial_writes",
            "Writes of a part of a block, which was read, changed and put back.",
        ),
        ("blocks_discarded", "Blocks of a disk removed by discards."),
        (
            "blocks_zeroed",
            "Blocks of a disk removed by requests to write zeroes.",
        ),
        ("blocks_destroyed", "Blocks of a disk removed by the host."),
        ("faults", "Mistakes of the driver, by their name."),
    ];

    pub(crate) fn new(name: String) -> Self {
        Self {
            requests: Default::default(),
            request_status: Default::default(),
            read: Default::default(),
            written: Default::default(),
            partial_writes: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            zeroed: AtomicU64::new(0),
            destroyed: AtomicU64::new(0),
            faults: Default::default(),
            latencies: Default::default(),
            notices: Notices::new(name),
        }
    }

    pub(crate) fn set_report(&mut self, report: Report) {
        self.notices.set_report(report);
    }

    pub(crate) fn request(&self, op: Op) {
        add(&self.requests, op as usize, 1);
    }

    pub(crate) fn answer(&self, status: Status) {
        add(&self.request_status, status as usize, 1);
    }

    pub(crate) fn read(&self, from: Read) {
        add(&self.read, from as usize, 1);
    }

    pub(crate) fn written(&self, what: Written) {
        add(&self.written, what as usize, 1);
    }

    pub(crate) fn partial_write(&self) {
        self.partial_writes.fetch_add(1, Relaxed);
    }

    pub(crate) fn discarded(&self, blocks: u64) {
        self.discarded.fetch_add(blocks, Relaxed);
    }

    pub(crate) fn zeroed(&self, blocks: u64) {
        self.zeroed.fetch_add(blocks, Relaxed);
    }

    pub(crate) fn destroyed(&self, blocks: u64) {
        self.destroyed.fetch_add(blocks, Relaxed);
    }

    /// Counts a mistake of the driver and, rarely, reports it.
    pub(crate) fn fault(&self, fault: Fault) {
        add(&self.faults, fault as usize, 1);
        self.notices.driver_mistake(fault.name());
    }

    /// How often the driver made this mistake.
    pub fn faults(&self, fault: Fault) -> u64 {
        let counter = self.faults.get(fault as usize);
        counter.map_or(0, |counter| counter.load(Relaxed))
    }

    /// A request was answered, and that took so long.
    pub fn served(&self, Served { op, status }: Served, took: Duration) {
        let histograms = self.latencies.get(op as usize);
        if let Some(histogram) = histograms.and_then(|of_op| of_op.get(status as usize)) {
            histogram.record(took);
        }
    }

    /// How long requests took, of those kinds of which there were any.
    pub fn latencies(&self) -> impl Iterator<Item = Latency> {
        let ops = Op::NAMES.iter().zip(&self.latencies);
        ops.flat_map(|(op, histograms)| {
            let all = Status::ALL.into_iter().zip(histograms);
            all.filter_map(|(status, histogram)| {
                let recorded = histogram.get()?;
                Some(Latency::new(op, status.name(), "persistent", recorded))
            })
        })
    }

    /// Every counter.
    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        let statuses = Status::ALL.map(Status::name);
        let faults = Fault::ALL.map(Fault::name);
        let labelled = [
            family("requests", "op", Op::NAMES, &self.requests),
            family("request_status", "status", &statuses, &self.request_status),
            family("blocks_read", "from", Read::NAMES, &self.read),
            family("blocks_written", "result", Written::NAMES, &self.written),
            family("faults", "fault", &faults, &self.faults),
        ];
        let single = [
            ("partial_writes", &self.partial_writes),
            ("blocks_discarded", &self.discarded),
            ("blocks_zeroed", &self.zeroed),
            ("blocks_destroyed", &self.destroyed),
        ]
        .map(|(family, counter)| Sample::of(family, "", "", counter));
        labelled.into_iter().flatten().chain(single)
    }
}

fn add(counters: &[AtomicU64], nth: usize, count: u64) {
    if let Some(counter) = counters.get(nth) {
        counter.fetch_add(count, Relaxed);
    }
}

fn family(
    family: &'static str,
    label: &'static str,
    names: &[&'static str],
    counters: &[AtomicU64],
) -> Vec<Sample> {
    let all = names.iter().zip(counters);
    all.map(|(name, counter)| Sample::of(family, label, name, counter))
        .collect()
}
