// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over what the kernel crate does not have: virtio, bios,
//! bio-based disks, plugs, a lock for interrupt context, cancellable work,
//! misc devices that hold the module.
//!
//! All of the module's `unsafe` code and all uses of C bindings are below here.

mod bindings;
pub(crate) mod bio;
pub(crate) mod chain;
pub(crate) mod disk;
pub(crate) mod irq_lock;
pub(crate) mod misc;
pub(crate) mod plug;
pub(crate) mod reclaim;
pub(crate) mod renewal;
pub(crate) mod virtio;
pub(crate) mod virtqueue;
pub(crate) mod work;
