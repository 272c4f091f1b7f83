// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clients that are cloned, and clients that become clones: see [`crate::base`].

use crate::base::{Base, CloneError, Layer};
use crate::client::Client;
use crate::sync::Arc;
use crate::types::Identity;

impl Client {
    /// Most bases that are over each other.
    pub const MOST_BASES: usize = 4;

    /// Has what the client has become a base, which it goes on over, and gives that; if it has not
    /// changed anything since it was given one, that one. Nobody uses the client meanwhile.
    ///
    /// `note` is told the identities by which the next store will know what the client has: its own, and
    /// those of its bases, the next one first. It is called before anything is changed, and at any
    /// time afterwards both what was noted before and what is noted then is right for what was there.
    ///
    /// # Errors
    /// See [`CloneError`]. The client goes on as it was.
    pub fn to_base(
        &self,
        note: impl FnOnce(Identity, &[Identity]) -> bool,
    ) -> Result<Arc<Base>, CloneError> {
        let before = self.layer(Layer::as_base);
        if let Some(base) = before.base.clone().filter(|_| before.is_as_its_base()) {
            return Ok(base);
        }
        let depth = before.base.as_ref().map_or(0, |base| base.depth());
        if depth >= Self::MOST_BASES {
            return Err(CloneError::TooDeep(depth));
        }
        let base = Base::of(&before);
        let all = std::iter::successors(Some(&base), |base| base.below());
        let bases: Vec<_> = all.map(|base| base.identity()).collect();
        let layer = before.successor(&base)?;
        if !note(layer.member.budget.identity, &bases) {
            layer.member.budget.end_all_aside();
            return Err(CloneError::Unnoted);
        }
        layer.begin(&before)?;
        base.freeze();
        self.set_layer(layer);
        Ok(base)
    }

    /// Gives up what the client has, and has it what a base has. Nobody uses the client meanwhile.
    ///
    /// [`Client::identity`] and [`Client::bases`] say then by what the next store will know it.
    ///
    /// # Errors
    /// See [`CloneError`]. The client goes on as it was.
    pub fn go_on_over(&self, base: &Arc<Base>) -> Result<(), CloneError> {
        let bytes = base.bytes();
        if bytes > self.member().budget.quota() {
            return Err(CloneError::Quota { bytes });
        }
        let layer = self.layer(|before| {
            let layer = before.successor(base)?;
            layer.begin(before)?;
            Ok(layer)
        })?;
        let before = self.set_layer(layer);
        before.member.end();
        Ok(())
    }
}
