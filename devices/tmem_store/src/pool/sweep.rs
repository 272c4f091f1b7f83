// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages of a base that all who are over it have hidden: they are removed, and so are their whiteouts.

use super::below::Below;
use super::{Cursor, Pages};
use crate::index::{Key, split};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::types::ObjectId;
use std::sync::Weak;

/// Those that see the pages of a pool of a base.
#[derive(Debug, Default)]
pub(crate) struct Viewers {
    all: Mutex<Vec<Weak<Below>>>,
    swept: Mutex<Swept>,
}

/// How far pages are swept that nobody sees any more.
#[derive(Debug, Default)]
struct Swept {
    /// A pass that is not over.
    at: Option<Cursor>,
    /// Pages that were not seen after the last pass, and that it did not find.
    left: u64,
}

impl Viewers {
    /// Adds one.
    pub(super) fn add(&self, viewer: &Arc<Below>) {
        self.lock().push(Arc::downgrade(viewer));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Below>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that there are.
    fn all(&self) -> Vec<Arc<Below>> {
        Self::there(&mut self.lock())
    }

    fn there(viewers: &mut Vec<Weak<Below>>) -> Vec<Arc<Below>> {
        viewers.retain(|viewer| viewer.strong_count() > 0);
        let all = viewers.iter().filter_map(Weak::upgrade);
        all.filter(|viewer| !viewer.is_cut()).collect()
    }
}

impl Pages {
    /// Removes some pages that nobody sees any more who is over this pool of a base, if there are so many
    /// that it is worth a pass; whether there may be more.
    pub(crate) fn sweep_some(&self) -> bool {
        /// Fewer have to wait for others.
        const FEW: u64 = 64;
        if !self.tag.is_visible() {
            return false;
        }
        let swept = &self.viewers.swept;
        let mut swept = swept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = match swept.at {
            Some(at) => at,
            None => {
                let own = self.count_itself();
                let worthwhile = match self.viewers.all().is_empty() {
                    true => 1,
                    false => (own / 16).max(FEW) + swept.left,
                };
                if self.unseen() < worthwhile {
                    return false;
                }
                Cursor::START
            }
        };
        let more = self.sweep(&mut at);
        swept.at = more.then_some(at);
        if !more {
            swept.left = self.unseen();
        }
        true
    }

    /// A piece of a pass; whether there is more of it.
    fn sweep(&self, from: &mut Cursor) -> bool {
        /// Blocks that are looked at before others may.
        const PIECE: usize = 64;
        let mut found: Vec<(ObjectId, u64)> = Vec::new();
        let more = self.look_at(from, PIECE, &mut |object, index| {
            found.push((*object, index));
        });
        // The list stays as it is: one more may see what the others have hidden. Those in it may be the last
        // of theirs, and end after that.
        let mut list = self.viewers.lock();
        let viewers = Viewers::there(&mut list);
        for (object, index) in found {
            let (block, nth) = split(index);
            let key = Key::new(&self.seed, &object, block);
            if viewers.iter().all(|viewer| viewer.hides(&key, nth)) {
                self.remove_itself(&key, nth);
                for viewer in &viewers {
                    viewer.whiteouts.remove_itself(&key, nth);
                }
            }
        }
        drop(list);
        more
    }

    /// Pages of the pool itself that nobody sees who is over it, at most.
    fn unseen(&self) -> u64 {
        let own = self.count_itself();
        let viewers = self.viewers.all();
        let hidden = viewers.iter().map(|viewer| viewer.whiteouts.count()).min();
        hidden.unwrap_or(own).min(own)
    }
}
