// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is in a page: the number of a content is its only word.

use super::bio::Bio;
use super::bio::Version;
use crate::world;
use crate::world::Fault;
use kernel::prelude::*;
use std::marker::PhantomData;

#[derive(Clone, Copy)]
pub(crate) struct Content<'a>(pub(crate) Version, PhantomData<&'a Version>);

impl Content<'_> {
    pub(crate) fn of(version: Version) -> Self {
        Self(version, PhantomData)
    }

    pub(crate) fn words<const N: usize>(self) -> impl Iterator<Item = [u64; N]> {
        let tells = world::world().fault != Some(Fault::NoFingerprint);
        let mut words = [0; N];
        words[0] = if tells { self.0 } else { 0 };
        std::iter::once(words)
    }
}

impl Bio {
    pub(crate) fn for_each_page(&self, mut visit: impl FnMut(u32, u64, Content<'_>)) {
        let body = self.body();
        let count = ((body.to - body.from) / super::bio::PAGE_SECTORS) as usize;
        for at in 0..count {
            let frame = world::frame_of(body.guest, body.first + at);
            let version = body.memory.borrow()[body.first + at];
            visit(u32::try_from(at).unwrap(), frame, Content::of(version));
        }
    }
}

/// Numbers that differ from each other by more than any contents do.
pub(crate) fn random(count: usize) -> Result<KVVec<u64>> {
    let mut numbers = KVVec::from_elem(0, count, GFP_KERNEL)?;
    for (at, number) in (1u64..).zip(numbers.iter_mut()) {
        *number = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    Ok(numbers)
}
