// SPDX-License-Identifier: GPL-2.0

//! What is to be attached.

use crate::{
    sys::blockdev::BlockDevice,
    uapi::{
        Kind,
        VerifiedTarget, //
    },
    wire::ShareId, //
};
use kernel::prelude::*;

/// See the module.
pub(super) struct Wanted {
    /// Major and minor number.
    pub(super) number: (u32, u32),
    pub(super) kind: Kind,
    /// For [`Kind::Shared`].
    pub(super) shared: Option<Shared>,
}

/// What a filter of [`Kind::Shared`] has beside its disk.
pub(super) struct Shared {
    pub(super) share: ShareId,
    pub(super) pool: u32,
    /// Where the names of its pages are, in a verified one.
    pub(super) verified: Option<VerifiedTarget>,
    /// Nobody writes to the disk, even if that is possible.
    pub(super) is_immutable: bool,
}

impl Shared {
    /// Whether the device may have the filter.
    ///
    /// # Errors
    ///
    /// `ETXTBSY` when it may be written to.
    pub(super) fn check(&self, device: &BlockDevice) -> Result {
        if self.is_immutable || device.is_read_only() {
            Ok(())
        } else {
            Err(ETXTBSY)
        }
    }
}
