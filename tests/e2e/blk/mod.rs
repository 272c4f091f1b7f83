// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Stock guests without the module, whose swap is a virtio-blk disk.

mod dead;
mod guest;
mod installed;
mod musl;
mod raw;
mod reported;
pub(crate) mod swap;
