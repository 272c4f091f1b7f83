// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Gets.

use super::Pool;
use crate::codec;
use crate::index::{Key, split};
use crate::memory::View;
use crate::types::{Get, ObjectId, Page};

impl Pool {
    /// Copies a page out of the store, straight into `page`, which is not
    /// touched on a miss.
    pub fn get(&self, object: &ObjectId, index: u64, page: &mut Page) -> Get {
        let (block, nth) = split(index);
        let get = self.get_at(&Key::new(&self.seed, object, block), nth, page);
        self.account.counters.get(get)
    }

    /// A get that also removes the page. For ephemeral pools: a removing get
    /// cannot be replayed.
    pub fn take(&self, object: &ObjectId, index: u64, page: &mut Page) -> Get {
        let (block, nth) = split(index);
        let key = Key::new(&self.seed, object, block);
        let taken = self.change(key.shard(), |change| change.shard.take(&key, nth));
        let get = match taken {
            Some(content) => {
                let get = self.read(&content.view(), page);
                self.free(content);
                self.account.counters.taken_pages.add(1);
                get
            }
            None => Get::Miss,
        };
        self.account.counters.get(get)
    }

    /// A get that is not yet counted.
    pub(super) fn get_at(&self, key: &Key<'_>, nth: usize, page: &mut Page) -> Get {
        let shard = self.shard(key.shard());
        let Some(view) = shard.view(key, nth) else {
            return Get::Miss;
        };
        // Under the shard's lock, which others can share: the page stays.
        self.read(&view, page)
    }

    fn read(&self, view: &View<'_>, page: &mut Page) -> Get {
        match view {
            View::Same(word) => codec::fill(*word, page),
            View::Slot(slot) => {
                let bytes = self.account.shared.arena.bytes(slot);
                if codec::decode(bytes, page).is_err() {
                    return Get::Lost;
                }
            }
        }
        Get::Hit
    }
}
