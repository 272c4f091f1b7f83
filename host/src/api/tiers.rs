// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where pages are: in memory, or in the spill area or remote memory; of the store and of each
//! virtual machine.

use serde::Serialize;
use tmem_store::{ClientStats, SharedStats, Store, StoreStats};

use super::Api;

/// What is where.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Tiers {
    memory: Memory,
    /// `None` without a spill area.
    spill: Option<Spill>,
    /// `None` without remote memory.
    remote: Option<Spill>,
    /// `None` if nothing was cloned.
    shared: Option<Pages>,
    vms: Vec<Vm>,
}

/// Memory.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Memory {
    limit_bytes: u64,
    held_bytes: u64,
    pages: u64,
}

/// The spill area, or remote memory.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Spill {
    path: String,
    size_bytes: u64,
    held_bytes: u64,
    free_bytes: u64,
    pages: u64,
    reads: u64,
    read_microseconds: u64,
    read_errors: u64,
    writes: u64,
    write_microseconds: u64,
    write_errors: u64,
}

/// Pages of a virtual machine's own, or those that clones have together with what they were cloned from.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Pages {
    memory_bytes: u64,
    memory_pages: u64,
    spill_bytes: u64,
    spill_pages: u64,
    spill_reads: u64,
    spill_read_microseconds: u64,
    promoted_pages: u64,
}

/// A virtual machine.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Vm {
    name: String,
    #[serde(flatten)]
    own: Pages,
    lost_pages: u64,
}

impl Tiers {
    pub(super) fn of(api: &Api) -> Self {
        let store = api.store_stats();
        let area = api.store.as_ref().and_then(|store| store.spill_area());
        let area = area.map(|(path, is_remote)| (Spill::of(path, &store), is_remote));
        let (spill, remote) = match area {
            Some((area, true)) => (None, Some(area)),
            Some((area, false)) => (Some(area), None),
            None => (None, None),
        };
        let shared = api.store.as_ref().and_then(Store::shared_stats);
        let machines = api.registry.list();
        let vms = machines.iter().map(|entry| {
            let stats = entry.machine().device().client().stats();
            Vm::of(entry.name().as_str(), &stats)
        });
        Self {
            memory: Memory::of(&store),
            spill,
            remote,
            shared: shared.map(|stats| Pages::shared(&stats)),
            vms: vms.collect(),
        }
    }
}

impl Memory {
    fn of(store: &StoreStats) -> Self {
        let pages = store.persistent_pages.saturating_add(store.ephemeral_pages);
        Self {
            limit_bytes: store.memory_limit_bytes,
            held_bytes: store.held_bytes,
            pages: pages.saturating_sub(store.spilled_pages),
        }
    }
}

impl Spill {
    fn of(path: String, store: &StoreStats) -> Self {
        Self {
            path,
            size_bytes: store.spill_size_bytes,
            held_bytes: store.spilled_bytes,
            free_bytes: store.spill_free_bytes,
            pages: store.spilled_pages,
            reads: store.spill_read_pages,
            read_microseconds: store.spill_read_microseconds,
            read_errors: store.spill_read_errors,
            writes: store.spill_written_segments,
            write_microseconds: store.spill_write_microseconds,
            write_errors: store.spill_write_errors,
        }
    }
}

impl Pages {
    fn shared(stats: &SharedStats) -> Self {
        Self {
            memory_bytes: stats.memory_bytes,
            memory_pages: stats.memory_pages,
            spill_bytes: stats.spilled_bytes,
            spill_pages: stats.spilled_pages,
            spill_reads: stats.spill_read_pages,
            spill_read_microseconds: stats.spill_read_microseconds,
            promoted_pages: stats.promoted_pages,
        }
    }

    fn own(stats: &ClientStats) -> Self {
        let own = |all: u64, shared, spilled| all.saturating_sub(shared).saturating_sub(spilled);
        let pages = stats.persistent_pages.saturating_add(stats.ephemeral_pages);
        Self {
            memory_bytes: own(stats.held_bytes, stats.shared_bytes, stats.spilled_bytes),
            memory_pages: own(pages, stats.shared_pages, stats.spilled_pages),
            spill_bytes: stats.spilled_bytes,
            spill_pages: stats.spilled_pages,
            spill_reads: stats.spill_read_pages,
            spill_read_microseconds: stats.spill_read_microseconds,
            promoted_pages: stats.promoted_pages,
        }
    }
}

impl Vm {
    fn of(name: &str, stats: &ClientStats) -> Self {
        Self {
            name: name.to_owned(),
            own: Pages::own(stats),
            lost_pages: stats.get_lost,
        }
    }
}
