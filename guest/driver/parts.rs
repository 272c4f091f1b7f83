// SPDX-License-Identifier: GPL-2.0

//! Many pages in parts, so that interrupts are not off for long while their states change.

use super::tuning;
use crate::sys::bio::Pages;

/// The parts of `pages`, in their order.
pub(crate) fn parts(pages: Pages) -> impl Iterator<Item = Pages> {
    let end = pages.index + u64::from(pages.count);
    let from = (pages.index..end).step_by(tuning::EXTENT_PAGES as usize);
    from.map(move |index| Pages {
        index,
        count: (end - index).min(tuning::EXTENT_PAGES) as u32,
    })
}
