// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtio-tmem device: request processing.
//!
//! A [`device::Device`] is one VM's device: its configuration space, its
//! counters and the store client behind it. A [`device::RequestQueue`] and a
//! [`device::EventQueue`] serve its virtqueues; whoever owns the transport
//! calls them when the driver kicks. Bytes come in through a
//! [`device::Source`] and go out through a [`device::Sink`]; no layer here
//! looks back up to the transport.

pub mod device;

pub use tmem_wire as wire;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
