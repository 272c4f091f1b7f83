// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The end-to-end tests: stock guests in QEMU swap into the daemon's store.
//! `cargo xtask e2e` runs them.

mod bed;
mod blk;
mod boot;
mod debian;
mod failing_area;
mod filter;
mod give_back;
mod hibernation;
mod lifecycle;
mod neighbours;
mod nested;
mod packages;
mod queues;
mod quota;
mod relay;
mod remote;
mod replug;
mod restart;
mod spill;
mod staged;
mod swap;
mod tmemctl;
mod watching;
