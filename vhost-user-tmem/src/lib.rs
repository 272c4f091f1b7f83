// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtio-tmem daemon as a library: what its program, its tests and the
//! maker of its man page share.
//!
//! [`cli`] says what is wanted, [`settings`] judges it, [`daemon`] runs it:
//! a [`vm::Vm`] per machine, one thread that waits for the front ends of all
//! ([`doors`]), one for each that has something to say, served over [`vhost_user`], and
//! optionally [`control`] and [`scrape`]. [`takeover`] is what one daemon has from the one before it;
//! [`confine`] says what threads may, and [`panics`] what becomes of one that is at its wits'
//! end.

mod answering;
mod attendant;
pub mod blame;
pub mod cli;
pub mod confine;
pub mod control;
pub mod daemon;
pub mod door;
pub mod doors;
pub mod entry;
mod faults;
pub mod inherited;
mod instance;
pub mod locked;
pub mod panics;
pub mod remote;
pub mod room;
pub mod scrape;
pub mod settings;
pub mod spill;
pub mod stop;
pub mod takeover;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
pub mod vhost_user;
pub mod vm;
