// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host's programs share, whichever way they serve their virtual
//! machines: the HTTP of their control sockets ([`http`]), the memory that a
//! process has and may have ([`heap`], [`group`], [`pressure`]) and that of the host ([`memory`]), trouble with it ([`health`]), what is done about it every so often ([`care`]), what is left out of its core
//! dumps ([`dumps`]), the devices that they serve ([`device`]) and the loop around a
//! queue ([`personality`]), what threads may ([`confine`]), what outlives a process ([`keeper`]), what the service manager passes on ([`listen_fds`]), and the metrics of a store and
//! its devices ([`metrics`]), as JSON ([`stats`]) and for Prometheus ([`prometheus`]). Which
//! virtual machines there are is in the [`registry`]; an operator sees and changes them over the
//! [`api`], and has their pages in an [`image`].

pub mod api;
pub mod care;
pub mod confine;
pub mod device;
pub mod dumps;
pub mod group;
pub mod health;
pub mod heap;
pub mod http;
pub mod image;
pub mod keeper;
pub mod listen_fds;
pub mod memory;
pub mod metrics;
pub mod personality;
pub mod pressure;
pub mod prometheus;
pub mod registry;
pub mod stats;
mod steady;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tmpfs;
