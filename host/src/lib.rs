// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host's programs share, whichever way they serve their virtual
//! machines: how they read a command line ([`cli`], [`size`]), log
//! ([`logging`]), say that they are ready ([`ready`]) and hear of their end
//! ([`signals`]), the sockets that they make ([`socket`]), the HTTP that is spoken there ([`http`]), the memory
//! that a process has and may have ([`heap`], [`group`]), what is left out of
//! its core dumps ([`dumps`]), and the
//! figures of a store and its devices ([`figures`]), as JSON ([`stats`]) and
//! as Prometheus text ([`metrics`]).

pub mod cli;
pub mod dumps;
pub mod figures;
pub mod group;
pub mod heap;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod ready;
pub mod signals;
pub mod size;
pub mod socket;
pub mod stats;
