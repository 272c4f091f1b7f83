// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Statistics. The names of the fields are stable: reports use them as keys.

/// What a store holds and did, over all clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Most bytes that the store holds: page memory and bookkeeping.
    pub memory_limit_bytes: u64,
    /// Bytes charged to clients: their segments of page memory and bookkeeping.
    pub held_bytes: u64,
    /// Bytes of page memory that the system reports behind the mapping.
    pub mapped_bytes: u64,
    /// Pages in persistent pools.
    pub persistent_pages: u64,
    /// Pages in ephemeral pools.
    pub ephemeral_pages: u64,
    /// Pages kept as one repeated word.
    pub same_filled_pages: u64,
    /// Pages kept compressed.
    pub compressed_pages: u64,
    /// Bytes of the compressed pages, without headers and padding.
    pub compressed_bytes: u64,
    /// Of the compressed pages, those that were not used for long and are kept with zstd.
    pub zstd_pages: u64,
    /// Bytes of them.
    pub zstd_bytes: u64,
    /// Pages kept as they are because they compress poorly.
    pub raw_pages: u64,
    /// Pages kept as they are that wait to be compressed.
    pub waiting_pages: u64,
    /// Ephemeral pages that were evicted to make room.
    pub evicted_pages: u64,
    /// Segments of the clients that are there out of which live entries were moved.
    pub cleaned_segments: u64,
    /// Bytes of entries moved out of them.
    pub moved_bytes: u64,
    /// Pages recompressed with zstd because they were not used for long.
    pub recompressed_pages: u64,
    /// Time that this took, whether or not pages got smaller.
    pub recompression_microseconds: u64,
    /// Clients.
    pub clients: u64,
}

/// What a client holds and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// The name given to the client.
    pub name: String,
    /// Most bytes that the store holds for this client.
    pub quota_bytes: u64,
    /// Its part of the store's memory when that is short, in relation to others.
    pub weight: u64,
    /// Bytes that it holds now: segments of page memory and bookkeeping.
    pub held_bytes: u64,
    /// Pages in persistent pools.
    pub persistent_pages: u64,
    /// Pages in ephemeral pools.
    pub ephemeral_pages: u64,
    /// Pages kept as one repeated word.
    pub same_filled_pages: u64,
    /// Pages kept compressed.
    pub compressed_pages: u64,
    /// Bytes of the compressed pages, without headers and padding.
    pub compressed_bytes: u64,
    /// Of the compressed pages, those that were not used for long and are kept with zstd.
    pub zstd_pages: u64,
    /// Bytes of them.
    pub zstd_bytes: u64,
    /// Pages kept as they are because they compress poorly.
    pub raw_pages: u64,
    /// Pages kept as they are that wait to be compressed.
    pub waiting_pages: u64,
    /// Pools.
    pub pools: u64,
    /// Whether the client is frozen.
    pub frozen: bool,
    /// Pages offered by puts.
    pub puts: u64,
    /// Puts that replaced an older page.
    pub puts_replaced: u64,
    /// Puts refused because a quota was used up.
    pub puts_refused_quota: u64,
    /// Puts refused because the store's memory was used up.
    pub puts_refused_memory: u64,
    /// Puts refused because the client was frozen.
    pub puts_refused_frozen: u64,
    /// Puts refused because the pool had been destroyed.
    pub puts_refused_pool_gone: u64,
    /// Puts refused because the caller could not read the data.
    pub puts_refused_unreadable: u64,
    /// Refused puts that removed an older page.
    pub puts_refused_prior_removed: u64,
    /// Pages asked for by gets.
    pub gets: u64,
    /// Gets that found the page.
    pub get_hits: u64,
    /// Gets that found nothing.
    pub get_misses: u64,
    /// Gets that found a page whose bytes could not be brought back.
    pub get_lost: u64,
    /// Pages whose compression was tried while they were put.
    pub compressed_in_line_pages: u64,
    /// Pages whose compression was tried after they had waited.
    pub compressed_later_pages: u64,
    /// Pages removed by flushes.
    pub flushed_pages: u64,
    /// Pages removed by gets that remove.
    pub taken_pages: u64,
    /// Pages removed with their pool.
    pub destroyed_pages: u64,
    /// Ephemeral pages evicted to make room.
    pub evicted_pages: u64,
    /// Segments out of which live entries were moved.
    pub cleaned_segments: u64,
    /// Bytes of entries moved out of them.
    pub moved_bytes: u64,
    /// Pages recompressed with zstd because they were not used for long.
    pub recompressed_pages: u64,
    /// Time that this took, whether or not pages got smaller.
    pub recompression_microseconds: u64,
}
