// SPDX-License-Identifier: GPL-2.0

//! Bounds, each with its reason.

use kernel::time::{
    msecs_to_jiffies,
    Jiffies, //
};

/// Request queues that are used at most. More locks than this are not contended.
pub(crate) const QUEUES: usize = 16;

/// Requests for I/O made for each queue. With full runs they carry 16 MiB.
pub(crate) const REQUESTS: usize = 32;

/// Parts of memory in a request: the block layer's own default for a bio. Bounds the descriptor
/// table that virtio allocates for each request to a page.
pub(crate) const SEGMENTS: usize = 128;

/// Pages in a request: those of a huge page. A device may allow fewer.
pub(crate) const RUN: u32 = 512;

/// Extents in a flush. Their 16 bytes each fill a page.
pub(crate) const EXTENTS: usize = 256;

/// Ranges of memory in a request that gives them back: what the kernel reports at a time.
pub(crate) const RANGES: usize = 32;

/// Smallest block of free memory that is given back, as the binary logarithm of its pages: 128 KiB,
/// unless the parameter `page_reporting_order` says otherwise. After a load has ended, little of the
/// free memory is in larger blocks; smaller ones cost a range each for less.
pub(crate) const REPORT_ORDER: u32 = 5;

/// The part of memory that is reported at a time, at most, if that is a block of the largest size:
/// it can't be used meanwhile, and not until the reset of a device that does not answer. Enough for
/// eight of those blocks in a guest of 512 MiB.
pub(crate) const REPORT_PART: u64 = 16;

/// Pages in an extent, and in a part of a large discard. Bounds how long interrupts are off while
/// their states change.
pub(crate) const EXTENT_PAGES: u64 = 4096;

/// Pages in a discard. For the same reason.
pub(crate) const DISCARD_PAGES: u32 = 65536;

/// Bios gathered in a task's plug before they are sent: reclaim plugs 32 pages at a time, so this
/// lets two of its batches merge. Needs not be less than [`CARRIERS`]: see `sys/plug.rs`.
pub(crate) const PLUG: usize = 64;

/// Pages that wait for a request before writers are made to wait: twice what fits into the requests
/// of one queue, when no two pages lie side by side in memory. Bios do not count: since 7.3 the
/// swap code fills them with up to 32 folios, before that with one.
pub(crate) const BACKLOG: u64 = 2 * (REQUESTS * SEGMENTS) as u64;

/// The part of memory that this is at most. When all that a small guest could reclaim is on its way to
/// the device, and nobody waits for it, the kernel kills a process.
pub(crate) const BACKLOG_PART: u64 = 16;

/// How long one write waits at most while the device is away or the backlog is long, in
/// milliseconds. Long enough that reclaim waits instead of killing for lack of memory; short
/// enough that a task that is itself bringing the device back gets on.
pub(crate) const WRITE_WAIT_MS: i64 = 1000;

/// How long swap writes that the device has not answered wait for it to come back, in milliseconds.
/// Then they fail, which loses nothing, because their pages stay in memory. They must not wait for
/// long: each holds a bio, and once memory is short and the reserve of bios is used up, even the
/// worker that brings the device back waits for one of them to end.
pub(crate) const SWAP_OUT_MS: u32 = 2000;

/// Pages kept for the return of a device that is gone: 1 MiB, for its PCI device and its queues, and for
/// those who allocate beside that.
pub(crate) const RESERVE_PAGES: usize = 256;

/// Pages of it that are freed before the kernel looks for memory again: some are left when others take
/// them.
pub(crate) const RELIEF_PAGES: u64 = 32;

/// How long a task that may wait does so before the kernel looks for memory again, in milliseconds.
/// Short: other tasks that find no memory try again all the time meanwhile.
pub(crate) const RELIEF_WAIT_MS: i64 = 100;

/// How often a waiting write looks again, in milliseconds: about a request's time when busy.
pub(crate) const WRITE_POLL_MS: i64 = 4;

/// How long a probe waits for the first answer, in milliseconds. Much longer than a device takes
/// that has a back end; short enough not to hold up a boot when it has none. The rest is then done
/// when the answer comes.
pub(crate) const FIRST_ANSWER_MS: i64 = 2000;

/// How long other answers are waited for, in milliseconds.
pub(crate) const CONTROL_MS: i64 = 10_000;

/// How often an awaited answer is looked for, in microseconds.
pub(crate) const CONTROL_POLL_MICROS: i64 = 200;

/// How often one who awaits an answer asks the device whether it still works, in milliseconds.
pub(crate) const CONTROL_CHECK_MS: i64 = 100;

/// Freed pages that are flushed without waiting for more: one full request.
pub(crate) const FLUSH_PAGES: usize = EXTENTS;

/// Event buffers: the kinds of event, twice.
pub(crate) const EVENTS: usize = 4;

/// How often a host that is full is offered a new page, in milliseconds: often enough that room is
/// used soon, too seldom for a storm of refusals.
pub(crate) const FULL_MS: i64 = 100;

/// How long hibernation waits for requests that are under way, in milliseconds.
pub(crate) const DRAIN_MS: i64 = 1000;

/// How long a task looks for the answer to its read at most, whatever the parameter says, in
/// microseconds: it keeps its CPU meanwhile.
pub(crate) const MOST_LOOK_MICROS: u32 = 1000;

/// Between two messages about the same trouble, in milliseconds.
pub(crate) const MESSAGE_MS: i64 = 10_000;

/// How long freed pages wait for company before they are flushed.
pub(crate) fn flush_delay() -> Jiffies {
    msecs_to_jiffies(100)
}

/// Runs that are staged at a time, at least and at most: one may be filled while another one is under
/// way; all are looked at for each page that is read or freed.
pub(crate) const LEAST_RUNS: u32 = 4;
pub(crate) const MOST_RUNS: u32 = 64;

/// Pages of a bio that are staged, at most. They are copied with interrupts off, in 20 us or so.
pub(crate) const MOST_STAGED: u32 = 64;

/// When to try again what is staged and the device did not take: as often as a host that is full is
/// offered a page.
pub(crate) fn keep_delay() -> Jiffies {
    msecs_to_jiffies(100)
}

/// When to try again after the transport had no memory.
pub(crate) fn retry_delay() -> Jiffies {
    msecs_to_jiffies(10)
}

/// Bios that can be on their way to the host at any one time without memory.
pub(crate) const CARRIERS: u32 = 64;

/// Copies of blocks that are on their way to the host at most, a page each: 2 MiB.
pub(crate) const COPIES: usize = 512;

/// Copies that are sent without waiting for more: what fits into a request.
pub(crate) const BATCH: usize = SEGMENTS;

/// How long copies wait for company before they are sent, in milliseconds. A clock that ticks every
/// 4 ms makes that 4.
pub(crate) const BATCH_MS: u32 = 2;

/// Pages that are present before or behind others that are not, for a read to be cut there: so many
/// pages cost a disk about what another request does.
pub(crate) const WORTH_CUTTING: u32 = 8;

/// Pages of a folio that are looked at when it is evicted, with interrupts off: two readaheads of the
/// usual size. Takes 50 us or so.
pub(crate) const EVICTED: u32 = 64;

/// Where writes to a disk's blocks are counted. With more, fewer of them share one.
pub(crate) const BUCKETS: usize = 4096;

/// Frames for each bucket where tickets have to last for as long as a page stays in memory, and most
/// buckets: they are all looked at, with interrupts off, when a disk is forgotten. So many writes that
/// no ticket is good any more are of eight times the memory, which leaves nothing there to be evicted.
pub(crate) const TICKET_FRAMES: u64 = 4;
pub(crate) const MOST_BUCKETS: usize = 1 << 16;

/// Pages that lie beside each other and share a bucket: what readahead reads at once.
pub(crate) const BUCKET_PAGES: u32 = 32;

/// Extents of copies that the host is yet to be told to free. When a disk is written to faster than
/// they are flushed, the host drops the rest when they are old.
pub(crate) const GARBAGE: usize = 4096;

/// Parts of four pages that are written back at a time. Writes to them wait meanwhile.
pub(crate) const HOME_PARTS: usize = 32;

/// Of how many pages, in multiples of the guest's memory, it is remembered that they were read.
/// What is read again later than that is as if it was read once.
pub(crate) const SEEN_MEMORIES: u64 = 4;

/// Bits for each page of those, so that few of other pages look as if they were read.
pub(crate) const SEEN_SPREAD: u64 = 8;

/// The part of memory that it may take to know which pages of one disk are present: enough for 200 times
/// the memory, when they lie side by side.
pub(crate) const PRESENT_PART: u64 = 128;

/// The part of memory that the states of the pages of all filters may take.
pub(crate) const STATES_PART: u64 = 16;

/// The part of the memory that is available now that those of one filter may take.
pub(crate) const STATES_AVAILABLE_PART: u64 = 2;

/// The part of memory that the states of one filter may take whatever is available: a swap disk
/// gets its filter just when memory is short, and gives back more than that.
pub(crate) const STATES_SMALL_PART: u64 = 256;

/// Pages that are forgotten at a time, with interrupts off, when what is known of a disk or of the
/// host is not true any more.
pub(crate) const FORGET_PAGES: u64 = 1 << 16;

/// How often it is looked, one after the other, that nobody uses a disk before its filter goes.
pub(crate) const IDLE_LOOKS: u32 = 2;

/// How often a host is asked for a share that it does not give, in milliseconds.
pub(crate) const SHARE_MS: i64 = 10_000;

/// Blocks of hashes, for 512 KiB of a disk each, that may be wanted at a time and have not been read.
pub(crate) const HASH_BLOCKS: usize = 16;

/// Blocks of hashes that are read after one that is wanted: 256 KiB together, as by dm-verity
/// (`prefetch_cluster`).
pub(crate) const HASH_AHEAD: u64 = 63;

/// How often it is looked whether the disks of filters are still there.
pub(crate) fn disk_watch() -> Jiffies {
    msecs_to_jiffies(1000)
}
