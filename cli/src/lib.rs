// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a program needs besides its purpose: how it reads a command line
//! ([`args`], [`settings`], [`size`]), with which code it exits ([`exit`]), where
//! it logs to ([`logging`]), how it says that it is ready ([`ready`]) and hears of
//! its end ([`signals`]), and how it makes sockets ([`socket`])
//! and sends over them what has no length yet ([`chunked`]).
//!
//! Nothing here knows of transcendent memory, virtual machines or virtio, so a
//! tool for guests can use it without the host's crates.

pub mod args;
pub mod chunked;
pub mod exit;
pub mod logging;
pub mod ready;
pub mod settings;
pub mod signals;
pub mod size;
pub mod socket;
