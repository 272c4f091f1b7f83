// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a driver can do wrong with rings and chains, whatever they are for.

/// A mistake of the driver's in a ring or a chain, whatever the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFault {
    /// The available ring cannot be read or its index is more than a queue
    /// size ahead: nothing is taken from the queue until it makes sense again.
    QueueIndex,
    /// The descriptor table, the available ring and the used ring overlap:
    /// what the device writes would be requests.
    RingOverlap,
    /// The available ring names a descriptor that does not exist.
    HeadRange,
    /// The used ring cannot be written.
    UsedRing,
    /// The chain loops, leaves its table, or its indirect table is malformed
    /// or outside guest memory.
    ChainBroken,
    /// A device-readable descriptor follows a device-writable one.
    ChainOrder,
}
