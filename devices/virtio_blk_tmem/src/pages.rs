// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The blocks of a disk as pages of a pool.
//!
//! A block whose page is not there reads as zeros, but for block 0 of a disk with a swap
//! header, which reads as that. A block that is written is a page in its place, and one of
//! zeros is none.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tmem_store::{ObjectId, PAGE_SIZE, Page, Pool};

use crate::metrics::{Metrics, Read, Written};

/// The object of a disk's pages.
pub(crate) const OBJECT: ObjectId = *b"virtio-blk disk, blocks:";

/// Who changes pages.
///
/// A write of a part of a block reads the page, changes it and puts it back: meanwhile nobody
/// else may change it. All others change whole pages, each at once, and may do so together.
#[derive(Debug, Default)]
pub(crate) struct Changes(RwLock<()>);

impl Changes {
    fn whole(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blocks of a disk, for one request.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    pub(crate) pool: Pool,
    pub(crate) metrics: &'a Metrics,
    pub(crate) changes: &'a Changes,
    /// What block 0 has until it is written.
    pub(crate) header: Option<&'a Page>,
    /// Blocks that have no page may have been written: they cannot be read.
    pub(crate) incomplete: bool,
}

/// A block could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

/// A block of zeros.
pub(crate) static ZEROS: Page = [0; PAGE_SIZE];

impl Blocks<'_> {
    /// What a block has that was never written.
    fn unwritten(&self, block: u64) -> (Result<&Page, Failed>, Read) {
        match self.header {
            _ if self.incomplete => (Err(Failed), Read::Lost),
            Some(header) if block == 0 => (Ok(header), Read::SwapHeader),
            _ => (Ok(&ZEROS), Read::Zeros),
        }
    }

    /// Hands the blocks from `first` on to `sink`, in order; [`Failed`] for one that cannot be
    /// brought back. `false`: `go_on` stopped it.
    pub(crate) fn read(
        &self,
        first: u64,
        count: u32,
        go_on: virtio_serve::GoOn<'_>,
        sink: &mut dyn FnMut(u64, Result<&Page, Failed>),
    ) -> bool {
        let deliver = &mut |nth: u32, found: tmem_store::Found<'_>| {
            let block = first.saturating_add(u64::from(nth));
            let (page, from) = match found {
                Ok(Some(page)) => (Ok(page), Read::Hit),
                Ok(None) => self.unwritten(block),
                Err(_) => (Err(Failed), Read::Lost),
            };
            self.metrics.read(from);
            sink(block, page);
        };
        let pool = &self.pool;
        pool.get_run_while(&OBJECT, first, count, go_on, deliver)
    }

    /// Writes a block.
    pub(crate) fn write(&self, block: u64, page: &Page) -> Result<(), Failed> {
        let _whole = self.changes.whole();
        self.put(block, page)
    }

    /// Writes `bytes` to a block, from its byte `at` on; `scratch` is for the rest of it. `false`:
    /// `go_on` stopped it, and nothing was written.
    pub(crate) fn write_part(
        &self,
        block: u64,
        at: usize,
        bytes: &[u8],
        scratch: &mut Page,
        go_on: virtio_serve::GoOn<'_>,
    ) -> Result<bool, Failed> {
        let _part = self.changes.part();
        let mut found = Ok(None);
        let whole = self
            .pool
            .get_run_while(&OBJECT, block, 1, go_on, &mut |_, page| {
                found = page.map(|page| page.map(|page| *scratch = *page));
            });
        if !whole {
            return Ok(false);
        }
        match found {
            Ok(Some(())) => {}
            Ok(None) if !self.incomplete => *scratch = *self.unwritten(block).0?,
            Ok(None) | Err(_) => {
                self.metrics.written(Written::Lost);
                return Err(Failed);
            }
        }
        let place = scratch.get_mut(at..at.saturating_add(bytes.len()));
        place.ok_or(Failed)?.copy_from_slice(bytes);
        self.metrics.partial_write();
        self.put(block, scratch).map(|()| true)
    }

    /// Puts a page in the place of a block. If it is refused, the block is what it was.
    fn put(&self, block: u64, page: &Page) -> Result<(), Failed> {
        // A page of zeros says that it is written, where that is not so without one.
        let says = self.incomplete || block == 0 && self.header.is_some();
        if *page == ZEROS && !says {
            self.pool.flush(&OBJECT, block, 1);
            self.metrics.written(Written::Zeros);
            return Ok(());
        }
        let put = self.pool.put_or_keep(&OBJECT, block, page);
        self.metrics
            .written(put.result.map_or_else(Written::from, |()| Written::Kept));
        put.result.map_err(|_| Failed)
    }

    /// Forgets blocks: they are as if they had never been written. `None`: `go_on` stopped it.
    pub(crate) fn forget(
        &self,
        ranges: &mut [(u64, u64)],
        go_on: virtio_serve::GoOn<'_>,
    ) -> Option<u64> {
        self.pool.flush_ranges_while(&OBJECT, ranges, go_on)
    }

    /// Zeros the blocks `first..=last`; how many pages went. `None`: `go_on` stopped it.
    pub(crate) fn zero(
        &self,
        first: u64,
        last: u64,
        go_on: virtio_serve::GoOn<'_>,
    ) -> Result<Option<u64>, Failed> {
        if self.incomplete {
            // There may be very many, and each would need a page.
            return Err(Failed);
        }
        let _whole = self.changes.whole();
        let mut range = [(first, last)];
        if first == 0 && self.header.is_some() {
            self.put(0, &ZEROS)?;
            if last == 0 {
                return Ok(Some(0));
            }
            range = [(1, last)];
        }
        Ok(self.forget(&mut range, go_on))
    }
}
