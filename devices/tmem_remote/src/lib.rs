// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Remote memory: segments of a store in a Valkey cluster, as ramster had them on other hosts.
//!
//! [`Valkey`] is an [`Area`](tmem_store::Area) of a [`Store`](tmem_store::Store). A segment is a string
//! value under a key of its own:
//!
//! ```text
//! tmem:NAMESPACE:AREA:CLIENT:SEQUENCE
//! ```
//!
//! with the daemon's namespace, the identity of the area and of the client in hexadecimal digits, and
//! the segment's sequence, which no other segment of the store ever has. So a key is written once, and
//! what is retried, or comes late, changes nothing.
//!
//! A segment counts as written once as many replicas as are asked for have acknowledged it: `SET` and
//! `WAIT` go to its node in one piece, on one connection, since `WAIT` on another one would speak of
//! nothing. Until then the store has its pages in memory.
//!
//! Threads of this crate's own speak to the cluster ([`Valkey::open`]). Who reads waits for one of them,
//! and may stop at any time; the store's demoter writes by itself.
//!
//! Nodes may say anything at any speed, or nothing. No operation takes longer, or more memory, than was
//! set for it when it began (`node`), however many nodes it is sent to.
//!
//! Layers, each knowing only those before it: `settings` (what operators say), `key`, `tls`, `resp`
//! (commands and answers), `routes` (which node has which key), `node` (a connection), `link` (those to
//! a cluster), `queue`, `reads` and `leftovers` (what the threads do), `valkey`.

mod key;
mod leftovers;
mod link;
mod node;
mod queue;
mod reads;
mod resp;
mod routes;
mod settings;
mod tls;
mod valkey;

pub use settings::{Certificate, Settings, Tls};
pub use valkey::{RemoteError, Valkey};
