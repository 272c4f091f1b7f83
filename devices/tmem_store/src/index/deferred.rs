// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Deferred pages: which is next, and whether it is still the same after it was
//! compressed without the shard's lock.

use super::BLOCK_PAGES;
use super::claim::{Claim, Place};
use super::shard::Shard;
use crate::tier::{Content, EntryRef};
use crate::types::ObjectId;

impl Shard {
    /// Whether there are deferred pages.
    pub(crate) fn has_deferred(&self) -> bool {
        self.next_deferred().is_some()
    }

    /// A deferred page: of the block that has had one longest.
    pub(crate) fn next_deferred(&self) -> Option<Place> {
        let number = self.maps.deferred.first;
        let block = self.maps.blocks.get(number)?;
        let nth = block.cells.first_deferred()?;
        Some(Place { number, nth })
    }

    /// To whom a page belongs: its object, and its index there.
    pub(crate) fn owner_of(&self, place: Place) -> Option<(ObjectId, u64)> {
        let block = self.maps.blocks.get(place.number)?;
        let object = self.maps.objects.get(block.object)?;
        Some((object.id, block.number * BLOCK_PAGES + place.nth as u64))
    }

    /// What is kept of a page.
    pub(crate) fn view_at(&self, place: Place) -> Option<EntryRef<'_>> {
        let block = self.maps.blocks.get(place.number)?;
        block.cells.view(place.nth)
    }

    /// Keeps what `change` makes of the content of a deferred page.
    pub(crate) fn replace(&mut self, place: Place, change: impl FnOnce(Content) -> Content) {
        let Place { number, nth } = place;
        if let Some(content) = self.maps.take(number, nth) {
            let vacated = self.maps.put(number, nth, change(content));
            debug_assert_eq!(vacated, None);
        }
    }

    /// Claims the next deferred page, unless there is none or one is claimed.
    pub(crate) fn claim(&mut self) -> Option<Claim> {
        if self.maps.claim.is_some() {
            return None;
        }
        let place = self.next_deferred()?;
        self.maps.claims += 1;
        let claim = Claim {
            place,
            claims: self.maps.claims,
        };
        self.maps.claim = Some(claim);
        Some(claim)
    }

    /// Ends a claim; the page, if it still is the one that was claimed.
    pub(crate) fn unclaim(&mut self, claim: Claim) -> Option<Place> {
        // The block may have another number by now.
        let place = self
            .maps
            .claim
            .filter(|other| other.claims == claim.claims)?
            .place;
        self.maps.claim = None;
        Some(place)
    }
}
