// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Cutting bios.

use super::bio::Bio;
use crate::world;

pub(crate) struct Splits;

impl Splits {
    pub(crate) fn cut(&self, bio: Bio, at: u64) -> Option<(Bio, Rest)> {
        let (from, to) = bio.sectors();
        if at <= from || at >= to {
            return Some((bio, Rest(None)));
        }
        let (front, rest) = bio.cut(at);
        Some((front, Rest(Some(rest))))
    }
}

pub(crate) struct Rest(Option<Bio>);

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some(bio) = self.0.take() {
            world::rest(bio);
        }
    }
}
