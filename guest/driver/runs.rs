// SPDX-License-Identifier: GPL-2.0

//! Where staged pages are: runs of pages that lie side by side on the disk, each given to the device at
//! once. A page is in one run at most.
//!
//! ```text
//!          first page          full, or time           sent              device took it
//!   free ------------> open ---------------> closed ---------> under way --------------> free
//!                                              ^                   |
//!                                              | tried again       | device did not take it
//!                                              +------ kept <------+
//! ```
//!
//! A write to a staged page replaces it, unless it is under way: then the write waits. A page whose
//! slot was freed is *dropped*. It goes to the device with its run, if others do, and the device is
//! told afterwards.

use crate::sys::bio::Pages;
use kernel::prelude::*;

/// Pages in a run, at most: those for which reclaim asks at once, and the bits of a mask.
pub(crate) const LONGEST: u32 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Open,
    Closed,
    UnderWay,
    Kept,
}

#[derive(Clone, Copy)]
struct Run {
    state: State,
    first: u64,
    count: u32,
    /// A bit for each page that nobody needs any more.
    dropped: u32,
}

impl Run {
    const FREE: Self = Self {
        state: State::Free,
        first: 0,
        count: 0,
        dropped: 0,
    };

    fn place(&self, page: u64) -> Option<u32> {
        let at = page.checked_sub(self.first)?;
        (at < u64::from(self.count)).then_some(at as u32)
    }

    fn is_dropped(&self, at: u32) -> bool {
        self.dropped & (1 << at) != 0
    }

    fn is_all_dropped(&self) -> bool {
        self.dropped.count_ones() == self.count
    }

    /// How many of `pages` are in here.
    fn overlap(&self, pages: Pages) -> u32 {
        let from = self.first.max(pages.index);
        let to = (self.first + u64::from(self.count)).min(pages.index + u64::from(pages.count));
        to.saturating_sub(from) as u32
    }
}

/// Pages in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) run: usize,
    /// The first.
    pub(crate) at: u32,
    pub(crate) count: u32,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is a place for each of its pages.
    Staged,
    /// None of its pages is staged, nor is to be.
    Unstaged,
    /// A page is under way: it waits until that has ended.
    Waits,
    /// Some of its pages are staged, and there is no place for the others.
    Refused,
}

/// Pages that nobody needs any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped {
    first: u64,
    mask: u32,
}

impl Iterator for Dropped {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.mask == 0 {
            return None;
        }
        let at = self.mask.trailing_zeros();
        self.mask &= self.mask - 1;
        Some(self.first + u64::from(at))
    }
}

/// See the module.
pub(crate) struct Runs {
    runs: KVec<Run>,
    open: Option<usize>,
    free: usize,
    closed: usize,
    under_way: usize,
    kept: usize,
}

impl Runs {
    /// `count` runs, all free.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(count: usize) -> Result<Self> {
        Ok(Self {
            runs: KVec::from_elem(Run::FREE, count, GFP_KERNEL)?,
            open: None,
            free: count,
            closed: 0,
            under_way: 0,
            kept: 0,
        })
    }

    /// Runs that are not free.
    pub(crate) fn in_use(&self) -> usize {
        self.runs.len() - self.free
    }

    /// Runs for whose answer the device is waited for.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Runs that are to be tried again.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// Whether a run waits for more pages.
    pub(crate) fn has_open(&self) -> bool {
        self.open.is_some()
    }

    /// Looks for places for a write of `pages`, in runs of `longest` pages. New pages get some only if
    /// they `may_grow`, and the device has taken all others.
    pub(crate) fn room(&self, pages: Pages, may_grow: bool, longest: u32) -> Room {
        let mut held = 0;
        if self.in_use() > 0 {
            for run in self.runs.iter() {
                let overlap = run.overlap(pages);
                if overlap > 0 && run.state == State::UnderWay {
                    return Room::Waits;
                }
                held += overlap;
            }
        }
        let new = pages.count - held;
        // Between those that are staged, each may need its own.
        let runs = if held == 0 {
            new.div_ceil(longest.clamp(1, LONGEST)) + 1
        } else {
            new
        };
        let has_room = may_grow && self.kept == 0 && self.free >= runs as usize;
        match (held, new) {
            (_, 0) => Room::Staged,
            _ if has_room => Room::Staged,
            (0, _) => Room::Unstaged,
            _ => Room::Refused,
        }
    }

    /// Gives a place to `page`, and to up to `most` pages from it on: that where it is, or a new one.
    /// There is one if there was [room](Self::room).
    pub(crate) fn place(&mut self, page: u64, most: u32, longest: u32) -> Option<Place> {
        for (at, run) in self.runs.iter_mut().enumerate() {
            if let Some(place) = run.place(page) {
                run.dropped &= !(1 << place);
                return Some(Place {
                    run: at,
                    at: place,
                    count: 1,
                });
            }
        }
        let mut count = most;
        for run in self.runs.iter() {
            if run.count > 0 && run.first > page {
                count = count.min(u32::try_from(run.first - page).unwrap_or(u32::MAX));
            }
        }
        let longest = longest.clamp(1, LONGEST);
        let goes_on = |run: &Run| run.count < longest && run.first + u64::from(run.count) == page;
        if !self.open_run().is_some_and(goes_on) {
            self.close();
            let at = self.runs.iter().position(|run| run.state == State::Free)?;
            if let Some(run) = self.runs.get_mut(at) {
                run.state = State::Open;
                run.first = page;
            }
            self.free -= 1;
            self.open = Some(at);
        }
        let at = self.open?;
        let run = self.runs.get_mut(at)?;
        let place = Place {
            run: at,
            at: run.count,
            count: count.min(longest - run.count),
        };
        run.count += place.count;
        if run.count == longest {
            self.close();
        }
        Some(place)
    }

    fn open_run(&self) -> Option<&Run> {
        self.runs.get(self.open?)
    }

    /// No page is added to the open run any more: it is to be sent.
    pub(crate) fn close(&mut self) {
        if let Some(run) = self.open.take().and_then(|at| self.runs.get_mut(at)) {
            run.state = State::Closed;
            self.closed += 1;
        }
    }

    /// Takes a run that is to be sent.
    pub(crate) fn send(&mut self) -> Option<(usize, Pages)> {
        if self.closed == 0 {
            return None;
        }
        let (at, run) =
            (self.runs.iter_mut().enumerate()).find(|(_, run)| run.state == State::Closed)?;
        run.state = State::UnderWay;
        self.closed -= 1;
        self.under_way += 1;
        let pages = Pages {
            index: run.first,
            count: run.count,
        };
        Some((at, pages))
    }

    /// A run that was sent has ended, and the device `took` it. Gives the pages of which the device is
    /// to be told that nobody needs them.
    pub(crate) fn ended(&mut self, at: usize, took: bool) -> Dropped {
        let Some(run) = self.runs.get_mut(at) else {
            return Dropped { first: 0, mask: 0 };
        };
        let dropped = Dropped {
            first: run.first,
            mask: run.dropped,
        };
        self.under_way -= 1;
        if took || run.is_all_dropped() {
            *run = Run::FREE;
            self.free += 1;
        } else {
            run.state = State::Kept;
            self.kept += 1;
        }
        dropped
    }

    /// What the device did not take is to be sent again.
    pub(crate) fn retry(&mut self) {
        for run in self.runs.iter_mut() {
            if run.state == State::Kept {
                run.state = State::Closed;
            }
        }
        self.closed += core::mem::take(&mut self.kept);
    }

    /// Nobody needs `page` any more. Says whether the device may be told now: if not, it is told when
    /// the run has [ended](Self::ended).
    pub(crate) fn free(&mut self, page: u64) -> bool {
        if self.in_use() == 0 {
            return true;
        }
        let staged = |run: &(usize, &mut Run)| run.1.place(page).is_some();
        let Some((at, run)) = self.runs.iter_mut().enumerate().find(staged) else {
            return true;
        };
        if let Some(place) = run.place(page) {
            run.dropped |= 1 << place;
        }
        match run.state {
            State::UnderWay => return false,
            _ if !run.is_all_dropped() => return true,
            State::Open => self.open = None,
            State::Closed => self.closed -= 1,
            State::Kept | State::Free => self.kept -= 1,
        }
        if let Some(run) = self.runs.get_mut(at) {
            *run = Run::FREE;
            self.free += 1;
        }
        true
    }

    /// Nobody needs any page any more.
    pub(crate) fn forget(&mut self) {
        for run in self.runs.iter_mut() {
            if run.state == State::UnderWay {
                run.dropped = u32::MAX >> (u32::BITS - run.count.clamp(1, LONGEST));
            } else {
                *run = Run::FREE;
            }
        }
        self.free = self.runs.len() - self.under_way;
        self.open = None;
        self.closed = 0;
        self.kept = 0;
    }

    /// How many of `pages`, from the first on, are staged side by side, and where; or how many are not.
    pub(crate) fn alike(&self, pages: Pages) -> (u32, Option<Place>) {
        let mut unstaged = pages.count;
        for (at, run) in self.runs.iter().enumerate() {
            if run.overlap(pages) == 0 {
                continue;
            }
            let Some(first) = run.place(pages.index) else {
                unstaged = unstaged.min((run.first - pages.index) as u32);
                continue;
            };
            let most = pages.count.min(run.count - first);
            let is_dropped = run.is_dropped(first);
            let count = (1..most)
                .find(|i| run.is_dropped(first + i) != is_dropped)
                .unwrap_or(most);
            let place = Place {
                run: at,
                at: first,
                count,
            };
            return (count, (!is_dropped).then_some(place));
        }
        (unstaged, None)
    }
}
