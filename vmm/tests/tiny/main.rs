// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program with guests of some dozen instructions, which any KVM can run.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod api;
mod asm;
#[path = "../vhost_user/daemon.rs"]
mod daemon;
mod guest;
#[path = "../../../vhost-user-tmem/tests/common/huge_pages.rs"]
mod pool;
mod terminal;
#[path = "../../../vhost-user-tmem/tests/common/tmemctl.rs"]
mod tmemctl;
mod virtio;
mod vmm;

mod control;
mod devices;
mod dumps;
mod ends;
mod help;
mod huge_pages;
mod manners;
mod misuse;
mod network;
mod operated;
mod places;
mod ports;
mod pressure;
mod refusals;
mod signals;
mod tmem;
