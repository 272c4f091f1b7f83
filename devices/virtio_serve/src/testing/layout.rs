// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a driver may choose about a request.

/// How a request's bytes are cut into descriptors.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Where the device-readable bytes are cut, in bytes from their start.
    pub readable: Vec<u32>,
    /// Where the device-writable bytes are cut.
    pub writable: Vec<u32>,
    /// Whether the descriptors are in an indirect table.
    pub indirect: bool,
}
