// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages of a front end, and a connection that outlives the daemon.
//!
//! A relay stands between the front end's socket and the vhost crate. It takes what has come
//! and never waits: the crate gets whole messages only. If the connection is to outlive the
//! daemon, it notes what each message sets up, and has the file descriptors kept, before the
//! message is answered. The relay of the next daemon has the same socket, and sends the crate
//! what a front end would that connects anew: the front end itself sees nothing.

mod inner;
mod message;
mod outbox;
mod relay;
mod state;

pub(super) use inner::Inner;
pub use relay::Waiting;
pub(super) use relay::{Front, Relay, Step};
