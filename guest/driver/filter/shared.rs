// SPDX-License-Identifier: GPL-2.0

//! Filters on disks to which nobody writes, with a share: what one guest has read from its disk, others
//! with the same disk read from the host. Only who administers the guests knows that the disks are the
//! same.
//!
//! | | what is done |
//! |---|---|
//! | a block is read | the share is asked for it; on a miss the disk, and what that brings is put |
//! | anything changes the disk, or may have | the share is not used any more, for good: see `blocks` |
//! | the host does not have the share | everything goes to the disk: see `manager::shares` |
//! | the filter goes | so does its use of the share; the pages stay |
//!
//! A read that is under way when the first write comes may still bring what was there before, from the
//! share as from the disk. A put that is under way then is of what was read before that write.
//!
//! All filters with a share name a page alike: by the object of zeros, and by its place on the block
//! device that they are attached to. With a verified share they name it by its hash, and need not believe
//! each other: see `verity`.

use super::{
    list::Filters,
    wanted::{
        Shared,
        Wanted, //
    },
    Filter, //
};
use crate::{
    driver::blocks::ShareEnd,
    uapi::{
        Kind,
        ShareUse,
        SharedTarget,
        VerifiedTarget, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

impl Filters {
    /// Attaches a filter with a share.
    ///
    /// # Errors
    ///
    /// Those of [`crate::uapi::ATTACH_SHARED`].
    pub(crate) fn attach_shared(self: &Arc<Self>, target: &SharedTarget) -> Result {
        self.attach_with(target, None)
    }

    /// Attaches a filter with a verified share.
    ///
    /// # Errors
    ///
    /// Those of [`crate::uapi::ATTACH_VERIFIED`].
    pub(crate) fn attach_verified(self: &Arc<Self>, target: &VerifiedTarget) -> Result {
        self.attach_with(&target.shared, Some(*target))
    }

    fn attach_with(
        self: &Arc<Self>,
        target: &SharedTarget,
        verified: Option<VerifiedTarget>,
    ) -> Result {
        // The manager's mutex is not taken under ours.
        let pool = self.manager.open_share(target.share, verified.is_some())?;
        let attached = self.attach_wanted(&Wanted {
            number: (target.major, target.minor),
            kind: Kind::Shared,
            shared: Some(Shared {
                share: target.share,
                pool,
                verified,
                is_immutable: target.flags & SharedTarget::IMMUTABLE != 0,
            }),
        });
        match attached {
            Ok(()) => self.manager.begin_share(pool),
            Err(_) => self.manager.close_share(pool),
        }
        attached
    }
}

impl Filter {
    /// A disk with a share that is being written to when its filter comes is not what it was said to be.
    pub(super) fn look_for_writes(&self) {
        if self.share.is_some() && self.hook.has_writes() {
            self.area.cache(|blocks| blocks.forget_all());
        }
    }

    /// What becomes of its share, if it has one.
    pub(super) fn share_use(&self) -> Option<ShareUse> {
        self.share?;
        let end = self.area.cache(|blocks| blocks.share_end()).flatten();
        Some(match end {
            Some(ShareEnd::Written) => ShareUse::Written,
            Some(ShareEnd::Unknown) => ShareUse::Unknown,
            None if self.area.is_ready() => ShareUse::Used,
            None => ShareUse::Waiting,
        })
    }
}
