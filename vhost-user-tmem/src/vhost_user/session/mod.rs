// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A connection that outlives the daemon.
//!
//! A relay stands between the front end's socket and the vhost-user-backend crate. It
//! notes what each message sets up, and has the file descriptors kept, before the message
//! is answered. The relay of the next daemon has the same socket, and sends the crate
//! what a front end would that connects anew: the front end itself sees nothing.

mod message;
mod outbox;
mod pair;
mod relay;
mod state;

pub(super) use pair::pair;
pub use relay::Waiting;
pub(super) use relay::{Front, Relay};
