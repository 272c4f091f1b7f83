// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The shares that one virtual machine may have.

use std::sync::Arc;

use virtio_tmem::device::SharedPool;
use virtio_tmem::wire::ShareId;

use super::super::name::Name;
use super::Shares;

/// See the module.
#[derive(Debug)]
pub(super) struct Allowed {
    pub(super) shares: Arc<Shares>,
    /// The machine: it is known by the door that it comes through, and by nothing that it says.
    pub(super) vm: Name,
}

impl virtio_tmem::device::Shares for Allowed {
    fn pool(&self, id: &ShareId) -> Option<SharedPool> {
        self.shares.pool(&self.vm, id)
    }
}
