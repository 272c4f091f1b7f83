// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Terms that several commands print.

use crate::uapi::Kind;

/// Bytes in a page.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// What a kind is called.
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Precache => "precache",
        Kind::Preswap => "preswap",
        Kind::Victim => "victim",
        Kind::Shared => "shared",
    }
}
