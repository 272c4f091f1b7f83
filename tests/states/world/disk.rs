// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk that knows what was where at any time.

use crate::sys::bio::Version;
use std::collections::BTreeMap;

/// What pages have before anybody writes: no other version is as high.
const FIRST: Version = 1 << 32;

/// What a page has before anybody writes.
pub(crate) fn first(page: u64) -> Version {
    FIRST + page
}

#[derive(Default)]
pub(crate) struct Disk {
    /// Of each page, what came to be there and when, latest last.
    pages: BTreeMap<u64, Vec<(u64, Version)>>,
    /// How often it became another one.
    pub(crate) identity: u64,
}

impl Disk {
    /// What is there now.
    pub(crate) fn read(&self, page: u64) -> Version {
        let last = self.pages.get(&page).and_then(|history| history.last());
        last.map_or(first(page), |(_, version)| *version)
    }

    pub(crate) fn write(&mut self, page: u64, version: Version, now: u64) {
        self.pages.entry(page).or_default().push((now, version));
    }

    /// Whether `version` was there at any moment since `since`.
    pub(crate) fn was(&self, page: u64, version: Version, since: u64) -> bool {
        let history = self.pages.get(&page).map_or(&[][..], Vec::as_slice);
        let end_of = |at: usize| history.get(at).map_or(u64::MAX, |(time, _)| *time);
        let first = (version == first(page)).then(|| end_of(0));
        let mut ends = history
            .iter()
            .enumerate()
            .filter(|(_, (_, there))| *there == version)
            .map(|(at, _)| end_of(at + 1))
            .chain(first);
        ends.any(|end| end > since)
    }
}
