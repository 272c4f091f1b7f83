// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-net on a tap (virtio 1.2, section 5.1).
//!
//! [`Tap`] is the host's interface, [`Net`] the device. One thread works on
//! both queues: `receive` takes packets from the tap to the guest, `transmit`
//! the other way. A packet's `header` says what of its checksum and its
//! segmentation is still to be done; the host's kernel does it.

mod device;
mod header;
mod mac;
mod options;
mod receive;
mod stats;
mod tap;
mod transmit;

#[cfg(test)]
mod tests;

pub use device::Net;
pub use mac::MacAddress;
pub use options::NetOptions;
pub use stats::NetStats;
pub use tap::{Tap, TapError};
