// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Real guests and a real daemon, for the end-to-end tests and the demo.
//!
//! Every wait is one for a condition, with a deadline, and its error says what
//! was waited for. Everything that is started is ended when its handle goes.

mod assets;
mod cluster;
mod console;
mod daemon;
mod disk;
mod drive;
mod guest;
mod host;
mod image;
mod job;
mod link;
mod load;
mod others;
mod process;
mod program;
mod qemu;
mod qmp;
mod relay;
mod vmm;
mod wait;
mod write_log;

pub use assets::AreaAssets;
pub use assets::Assets;
pub use assets::PackageAssets;
pub use assets::Services;
pub use assets::StockAssets;
pub use assets::StorageAssets;
pub use assets::VmmAssets;
pub use cluster::Cluster;
pub use cluster::Place;
pub use daemon::Daemon;
pub use daemon::DaemonOptions;
pub use daemon::DaemonPlace;
pub use daemon::Stats;
pub use disk::Disk;
pub use drive::Bus;
pub use drive::Drive;
pub use drive::HostCache;
pub use guest::Guest;
pub use guest::GuestOptions;
pub use guest::Machine;
pub use guest::Qemu;
pub use host::Files;
pub use host::Host;
pub use host::HostOptions;
pub use image::Filesystem;
pub use image::Image;
pub use image::Verity;
pub use job::Ended;
pub use job::Job;
pub use load::Load;
pub use others::Other;
pub use others::OtherOptions;
pub use others::OtherVmm;
pub use program::Program;
pub use qmp::Qmp;
pub use relay::Relay;
pub use tmem_agent::http::Response;
pub use tmem_agent::protocol;
pub use vmm::VmOptions;
pub use vmm::Vmm;
pub use wait::until;
pub use write_log::PowerCut;
pub use write_log::WriteLog;
