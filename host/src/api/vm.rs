// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A virtual machine as JSON.

use serde_json::{Value, json};
use virtio_tmem::wire::PAGE_SIZE;

use crate::metrics::freeable;
use crate::registry::{Amount, Disk, Entry, Registry};

/// Its settings, and what it has.
pub(super) fn of(registry: &Registry, entry: &Entry) -> Value {
    let settings = entry.settings();
    let disk = settings.disk.as_ref();
    let device = entry.machine().device();
    let stats = device.client().stats();
    let backing = device.backing();
    let pages = stats.persistent_pages.saturating_add(stats.ephemeral_pages);
    json!({
        "name": entry.name().as_str(),
        "personality": settings.personality(),
        "origin": entry.origin().name(),
        "kept": registry.is_kept(entry),
        "socket": entry.socket(),
        "quota": Amount::from(settings.quota),
        "quota_bytes": stats.quota_bytes,
        "ephemeral_quota": settings.ephemeral_quota,
        "weight": settings.weight,
        "codec": settings.codec.name(),
        "domain": settings.domain.as_ref().map(|domain| domain.as_str()),
        "max_pools": settings.max_pools,
        "grace": settings.grace.as_secs(),
        "swap_size": disk.is_none().then_some(settings.swap_size),
        "size": disk.map(|disk| disk.size),
        "swapspace": disk.map(|disk| disk.swapspace),
        "label": disk.map(|disk| &disk.label),
        "on_full": disk.map(|_| Disk::ON_FULL),
        "give_back": settings.give_back.name(),
        "frozen": settings.frozen,
        "connected": entry.machine().connection().connected,
        "pools": stats.pools,
        "persistent_pages": stats.persistent_pages,
        "ephemeral_pages": stats.ephemeral_pages,
        "stored_bytes": pages.saturating_mul(PAGE_SIZE as u64),
        "held_bytes": stats.held_bytes,
        "ephemeral_held_bytes": stats.ephemeral_held_bytes,
        "freeable_bytes": freeable(&stats),
        "memory_bytes": backing.map(|it| it.bytes),
        "resident_bytes": backing.map(|it| it.backed),
        "given_back_bytes": backing.map(|it| it.given()),
    })
}
