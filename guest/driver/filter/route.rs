// SPDX-License-Identifier: GPL-2.0

//! The routes of a bio: to the disk, to the host, and back to be dealt with later.

use super::{
    purpose::Purpose,
    Filter,
    RETRY, //
};
use crate::sys::{
    bio::{
        Bio,
        Pages,
        PAGE_SECTORS, //
    },
    split::Rest, //
};
use kernel::sync::{
    atomic::Relaxed,
    Arc, //
};

impl Filter {
    /// Passes a bio on to the disk.
    pub(super) fn pass(self: &Arc<Self>, bio: Bio) {
        let flight = self.gate.enter();
        self.pass_as(bio, |original| Purpose::Through(original, flight));
    }

    /// Passes a bio on to the disk, with a purpose.
    pub(super) fn pass_as(&self, bio: Bio, purpose: impl FnOnce(Bio) -> Purpose) {
        self.hook.clones().pass_on(bio, &self.shadow, purpose);
    }

    /// The first pages of a bio, as many as fit into a request, and the rest. Gives nothing when it
    /// was ended.
    pub(super) fn fitting(&self, bio: Bio, pages: Pages, count: u32) -> Option<(Bio, Pages, Rest)> {
        let count = count.min(self.engine.most_pages()).min(pages.count).max(1);
        let at = bio.sectors().0 + u64::from(count) * PAGE_SECTORS;
        let (front, rest) = self.hook.splits().cut(bio, at)?;
        Some((front, Pages { count, ..pages }, rest))
    }

    /// A bio that the engine takes in the place of another.
    pub(super) fn carrier(&self, bio: Bio, purpose: impl FnOnce(Bio) -> Purpose) -> Option<Bio> {
        let clones = &self.engine.shared.clones;
        clones.carrier_of(bio, self.origin, purpose)
    }

    /// Whether the host takes pages, and has not too much to do.
    pub(super) fn is_serving(&self) -> bool {
        self.area.is_ready()
            && self.engine.is_open()
            && !self.is_closing.load(Relaxed)
            && !self.engine.is_congested()
    }

    /// Has a bio dealt with in process context. In any context.
    pub(super) fn later(self: &Arc<Self>, bio: Bio) {
        // It is under way meanwhile.
        self.gate.join();
        self.retries.lock().push(bio);
        self.engine.retry_queue().schedule::<_, RETRY>(self, 0);
    }
}
