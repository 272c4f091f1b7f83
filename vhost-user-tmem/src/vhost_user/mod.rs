// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vhost-user transport, on the vhost-user-backend crate.

mod backend;
pub mod connection;
mod others;
mod queues;
mod serve;
mod served;
mod session;
mod vring;

pub use serve::{attend, go_on};
pub use session::Waiting;
