// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Real guests and a real daemon, for the end-to-end tests and the demo.
//!
//! Every wait is one for a condition, with a deadline, and its error says what
//! was waited for. Everything that is started is ended when its handle goes.

mod assets;
mod console;
mod daemon;
mod guest;
mod job;
mod link;
mod process;
mod qemu;
mod qmp;
mod wait;

pub use assets::Assets;
pub use daemon::Daemon;
pub use daemon::DaemonOptions;
pub use daemon::Stats;
pub use guest::Guest;
pub use guest::GuestOptions;
pub use job::Ended;
pub use job::Job;
pub use qmp::Qmp;
pub use tmem_agent::protocol;
pub use wait::until;
