// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the fuzz targets run. It stands here so that tests can replay what
//! the fuzzer found with any compiler.
//!
//! [`chains`] takes the bytes for what a hostile driver does to its rings and
//! memory: nothing must panic, hang or leak. [`histories`] takes them for what
//! two well-behaved drivers ask for, some of it of shares that both may have, and checks every answer against a model.
//! [`page_memory`] takes them for damage to what a store has left, and checks that
//! another one believes only what was written.

mod chains;
mod damage;
mod driver;
mod histories;
mod model;
mod page_memory;
mod pages;
mod seeds;
mod share;
mod verified;

pub use chains::chains;
pub use histories::histories;
pub use page_memory::page_memory;
pub use seeds::seeds;

use virtio_serve::testing::Bytes;
