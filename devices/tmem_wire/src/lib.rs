// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The wire format of the virtio-tmem device, version 1: what a driver and a
//! device say to each other, as `spec/virtio-tmem.md` defines it.
//!
//! | type | spec section |
//! |---|---|
//! | [`DEVICE_ID`] | 2, device id |
//! | [`Config`], [`Capabilities`] | 3, configuration space |
//! | [`EVENT_QUEUE`], [`FIRST_REQUEST_QUEUE`] | 4, virtqueues |
//! | [`RequestHeader`], [`AnswerHeader`], [`Status`], [`Hints`] | 5, requests |
//! | [`Op`], [`PoolSpec`], [`Extent`], [`Limits`], [`MemoryRange`] | 6, operations |
//! | [`Event`] | 7, events |
//!
//! Each structure has a `SIZE`, an `encode` to that many bytes and a `decode`
//! from them. Decoding cannot fail and judges nothing: numbers that version 1
//! does not know stay numbers, so that a device can refuse them with the status
//! that the specification asks for.
//!
//! The types are in one file, `wire.rs`, which the guest's kernel module is also
//! compiled with. It needs neither `std` nor `alloc`, no dependency and no
//! `unsafe`.
//!
//! ```
//! use tmem_wire::{AnswerHeader, Op, RequestHeader, Status};
//!
//! // The driver asks for eight pages of an object.
//! let request = RequestHeader {
//!     op: Op::Get as u16,
//!     flags: Default::default(),
//!     pool: 0,
//!     object: [7; 24],
//!     index: 1024,
//!     count: 8,
//! };
//! let bytes = request.encode();
//!
//! // The device reads it. An operation from a later version is no error here.
//! let read = RequestHeader::decode(&bytes);
//! assert_eq!(read, request);
//! assert_eq!(Op::from_wire(read.op), Some(Op::Get));
//!
//! let answer = AnswerHeader {
//!     status: Status::OK,
//!     hints: Default::default(),
//!     pages: 8,
//! };
//! assert!(AnswerHeader::decode(&answer.encode()).status.is_ok());
//! ```

#![no_std]
#![forbid(unsafe_code)]

mod wire;

pub use wire::*;
