// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vhost-user transport, on the vhost crate.

mod backend;
mod connection;
mod others;
mod queues;
mod requests;
mod same_file;
mod served;
mod session;
mod sharing;
mod transfer;
mod vring;

pub use connection::{Connection, Then, Watched};
pub use session::Waiting;
