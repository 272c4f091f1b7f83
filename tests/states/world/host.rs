// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host: what the device has under each handle.

use super::disk;
use crate::sys::bio::Bio;
use crate::sys::bio::Op;
use crate::sys::bio::Version;
use crate::wire::Status;
use std::collections::BTreeMap;

pub(crate) struct Host {
    pages: BTreeMap<u64, Version>,
    /// Others put and get the pages, too.
    is_shared: bool,
}

impl Host {
    /// Without pages.
    pub(crate) fn new(is_shared: bool) -> Self {
        Self {
            pages: BTreeMap::new(),
            is_shared,
        }
    }

    pub(crate) fn get(&self, page: u64) -> Option<Version> {
        self.pages.get(&page).copied()
    }

    pub(crate) fn remove(&mut self, page: u64) {
        self.pages.remove(&page);
    }

    pub(crate) fn clear(&mut self) {
        self.pages.clear();
    }

    /// The pages that it has.
    pub(crate) fn pages(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.keys().copied()
    }

    /// Does for the page at `at` of a bio what that asks for; `how` says whether it works. What is
    /// got may be removed.
    pub(crate) fn execute(
        &mut self,
        bio: &Bio,
        at: usize,
        how: u8,
        is_cache: bool,
        removes: bool,
    ) -> Status {
        let body = bio.body();
        let page = bio.pages().unwrap().index + at as u64;
        let memory = &mut body.memory.borrow_mut()[body.first + at];
        match body.op {
            Op::Write => {
                let before = self.pages.remove(&page);
                let status = match how {
                    150..=230 => Status::QUOTA,
                    231..=235 => Status::IO_ERROR,
                    _ => {
                        self.pages.insert(page, *memory);
                        Status::OK
                    }
                };
                status.with_prior_removed(before.is_some())
            }
            Op::Read if is_cache && how > 240 => Status::IO_ERROR,
            Op::Read if self.is_shared && how % 2 == 1 => {
                // Somebody else has put it.
                self.pages.insert(page, disk::first(page));
                *memory = disk::first(page);
                Status::OK
            }
            Op::Read => {
                let found = if removes {
                    self.pages.remove(&page)
                } else {
                    self.get(page)
                };
                match found {
                    Some(version) => {
                        *memory = version;
                        Status::OK
                    }
                    None => Status::MISS,
                }
            }
            Op::Discard | Op::Other => panic!("no filter asks for this"),
        }
    }
}
