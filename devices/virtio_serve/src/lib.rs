// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What virtio devices share, whatever they are: the bytes of requests and answers
//! ([`Source`], [`Sink`]), and what is counted of them ([`Sample`], [`Histogram`]) and
//! reported ([`Notices`]).
//!
//! With the feature `virtqueue` there are also requests of the virtio-queue crate, in memory
//! of the vm-memory crate: `Requests` takes them from a queue and puts them back in
//! order, and `Lost` knows of memory that vanished meanwhile. No layer here knows what a
//! request means, logs, or starts a thread.

#[cfg(feature = "virtqueue")]
mod backing_file;
#[cfg(feature = "virtqueue")]
mod chain;
#[cfg(feature = "virtqueue")]
mod fault;
mod histogram;
#[cfg(feature = "virtqueue")]
mod lost;
mod metrics;
mod notice;
#[cfg(feature = "virtqueue")]
mod queue;
mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(feature = "virtqueue")]
pub use backing_file::FileSystem;
#[cfg(feature = "virtqueue")]
pub use chain::Cursor;
#[cfg(feature = "virtqueue")]
pub use fault::RingFault;
pub use histogram::{Histogram, Recorded};
#[cfg(feature = "virtqueue")]
pub use lost::{Lost, Watch};
pub use metrics::{Latency, Sample};
pub use notice::{Notices, Report};
#[cfg(feature = "virtqueue")]
pub use queue::{Requests, Step, Taken, wants_notification};
pub use stream::{Sink, Source, Unmapped};

/// Asked now and then by a request that takes long, without locks held: whether it may
/// go on.
pub type GoOn<'a> = &'a mut dyn FnMut() -> bool;
