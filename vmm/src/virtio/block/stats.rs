// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a disk counts.

use crate::virtio::counters::counters;

counters! {
    /// Counters of one disk.
    pub struct BlockStats {
        reads: "Reads that succeeded.",
        read_bytes: "Bytes that they read.",
        writes: "Writes that succeeded.",
        written_bytes: "Bytes that they wrote.",
        discards: "Discards that succeeded.",
        discarded_bytes: "Bytes that they discarded.",
        zeroings: "Write-zeroes requests that succeeded.",
        zeroed_bytes: "Bytes that they zeroed.",
        flushes: "Flushes that succeeded, and writes that were made stable at once because the \
                  driver does not flush.",
        host_errors: "Requests that failed because the host's file did.",
        refused: "Requests that failed because the driver may not ask for that: beyond the end, \
                  of a wrong size, a write to a read-only disk.",
        unsupported: "Requests of types or with flags that the disk does not have.",
        malformed: "Chains without room for a status.",
    }
}
