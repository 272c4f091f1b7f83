// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtio-tmem device: request processing.
//!
//! A [`device::Device`] is one VM's device: its configuration space, its
//! counters and the store client behind it. Bytes of a request come in through a
//! [`device::Source`], those of the answer go out through a [`device::Sink`]; a
//! [`device::Executor`] is between them. No layer here looks back up to the
//! transport, logs, or starts a thread.
//!
//! With the feature `virtqueue`, which is on unless switched off, there are also
//! `device::RequestQueue` and `device::EventQueue`. They serve virtqueues of the
//! virtio-queue crate in memory of the vm-memory crate: whoever owns the transport
//! calls them when the driver kicks.
//!
//! ```
//! use tmem_store::{ClientConfig, Store, StoreConfig};
//! use virtio_tmem::device::{Device, DeviceConfig, Executor, MAX_POOLS, NoFrames};
//! use virtio_tmem::wire::{
//!     AnswerHeader, Op, PAGE_SIZE, PoolKind, PoolSpec, RequestFlags, RequestHeader, Status,
//! };
//!
//! // One store for all VMs; for each VM a client and a device.
//! let store = Store::new(StoreConfig::with_limit(64 << 20))?;
//! let client = ClientConfig::new("guest", 16 << 20).with_max_pools(MAX_POOLS);
//! let config = DeviceConfig::new("guest", *b"a random number!").with_swap_pages(4096);
//! let device = Device::new(store.add_client(client)?, config);
//!
//! // One executor for each queue. A slice is a source, and a mutable one a sink.
//! let mut executor = Executor::default();
//! let mut run = |request: &[u8], answer: &mut [u8]| {
//!     executor.run(&device, &NoFrames, &mut &*request, answer, &mut || true)
//! };
//!
//! // What a driver sends: a header, and what belongs to the operation.
//! let header = |op: Op, count| {
//!     let (flags, object) = (RequestFlags::default(), [7; 24]);
//!     let op = op as u16;
//!     RequestHeader { op, flags, pool: 0, object, index: 3, count }.encode()
//! };
//! let spec = PoolSpec::own(PoolKind::Persistent).encode();
//! let mut answer = [0; AnswerHeader::SIZE];
//! run(&[&header(Op::CreatePool, 0)[..], &spec].concat(), &mut answer);
//! assert_eq!(AnswerHeader::decode(&answer).status, Status::OK);
//!
//! // A put of one page, whose status follows the answer's header.
//! let page = [0xa5; PAGE_SIZE];
//! let mut answer = [0; AnswerHeader::SIZE + 1];
//! run(&[&header(Op::Put, 1)[..], &page].concat(), &mut answer);
//! assert_eq!(answer[AnswerHeader::SIZE], Status::OK.0);
//!
//! // And a get of it, which has the page after the status.
//! let mut answer = [0; AnswerHeader::SIZE + 1 + PAGE_SIZE];
//! run(&header(Op::Get, 1), &mut answer);
//! assert_eq!(answer[AnswerHeader::SIZE], Status::OK.0);
//! assert_eq!(answer[AnswerHeader::SIZE + 1..], page);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod device;

pub use tmem_wire as wire;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
