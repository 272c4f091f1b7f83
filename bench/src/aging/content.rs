// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Real pages: of files, and of the heap of a live Python.

use crate::aging::heap;
use crate::corpus;
use anyhow::Result;
use tmem_store::Page;

/// What a page is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sort {
    File,
    Heap,
}

/// Pages of each sort.
pub(super) struct Content {
    file: Vec<Page>,
    heap: Vec<Page>,
    files: usize,
}

impl Content {
    /// Takes up to `pages` pages of each sort, but for those of one repeated word: they
    /// cost neither the store nor zram anything.
    pub(super) fn collect(pages: usize) -> Result<Self> {
        /// More are taken, in percent, for what is left out.
        const SPARE: usize = 5;
        let want = pages + pages * SPARE / 100;
        let (file, files) = corpus::file_pages(want);
        let varied = |mut all: Vec<Page>| {
            all.retain(|page| !corpus::is_same_filled(page));
            all.truncate(pages);
            all
        };
        Ok(Self {
            file: varied(file),
            heap: varied(heap::pages(want)?),
            files,
        })
    }

    /// One sentence on what is measured with.
    pub(super) fn describe(&self) -> String {
        format!(
            "content: {} pages of {} files below /usr/lib and {} pages of a live Python's heap, \
             none of one repeated word",
            self.file.len(),
            self.files,
            self.heap.len()
        )
    }

    /// The pages of one sort.
    pub(super) fn of(&self, sort: Sort) -> &[Page] {
        match sort {
            Sort::File => &self.file,
            Sort::Heap => &self.heap,
        }
    }
}
