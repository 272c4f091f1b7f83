// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How pages are kept: as one repeated word, compressed, or as they are.

use std::cell::RefCell;

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use crate::tier::MAX_COMPRESSED;
use crate::types::{Lost, PAGE_SIZE, Page};

/// A page, ready to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoded<'a> {
    /// The page is this word, repeated.
    Same(u64),
    /// At most [`MAX_COMPRESSED`] compressed bytes, or the page itself.
    Bytes(&'a [u8]),
}

/// What a thread needs to compress: kept, because lz4_flex would otherwise
/// make its table anew (and allocate it, if built so) for each page.
struct Scratch {
    table: CompressTable,
    output: [u8; get_maximum_output_size(PAGE_SIZE)],
}

impl Scratch {
    fn new() -> Self {
        Self {
            table: CompressTable::small(),
            output: [0; get_maximum_output_size(PAGE_SIZE)],
        }
    }

    fn compress<'a>(&'a mut self, page: &'a Page) -> &'a [u8] {
        match compress_into_with_table(page, &mut self.output, &mut self.table) {
            Ok(len) if len <= MAX_COMPRESSED => self.output.get(..len).unwrap_or(page),
            _ => page,
        }
    }
}

/// The word that the page repeats, if it does.
pub(crate) fn same_filled(page: &Page) -> Option<u64> {
    let words = page.as_chunks::<8>().0;
    let (first, last) = (words.first()?, words.last()?);
    // Ends differ in most pages: one comparison then.
    let same = first == last
        && words
            .as_chunks::<8>()
            .0
            .iter()
            .all(|line| *line == [*first; 8]);
    same.then(|| u64::from_ne_bytes(*first))
}

/// Compresses `page` and hands the result to `keep`: at most
/// [`MAX_COMPRESSED`] bytes, or the page itself. `keep` may call this once
/// more, but not deeper, to be fast: a put that finds no memory compresses
/// pages that wait for it.
pub(crate) fn compress<T>(page: &Page, keep: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<[Option<Box<Scratch>>; 2]> = const { RefCell::new([None, None]) };
    }
    // Taken out of its place, so that a nested call takes another.
    let kept = SCRATCH.try_with(|places| {
        let mut places = places.try_borrow_mut().ok()?;
        places.iter_mut().find_map(Option::take)
    });
    let mut scratch = match kept {
        Ok(Some(scratch)) => scratch,
        _ => Box::new(Scratch::new()),
    };
    let kept = keep(scratch.compress(page));
    let _ = SCRATCH.try_with(|places| {
        if let Ok(mut places) = places.try_borrow_mut()
            && let Some(place) = places.iter_mut().find(|place| place.is_none())
        {
            *place = Some(scratch);
        }
    });
    kept
}

/// Fills `page` with a repeated word.
pub(crate) fn fill(word: u64, page: &mut Page) {
    page.as_chunks_mut::<8>().0.fill(word.to_ne_bytes());
}

/// Brings a page back from the bytes that were kept of it.
///
/// # Errors
/// When the bytes do not decode to exactly one page.
pub(crate) fn decode(bytes: &[u8], page: &mut Page) -> Result<(), Lost> {
    if let Ok(raw) = <&Page>::try_from(bytes) {
        *page = *raw;
        return Ok(());
    }
    match decompress_into(bytes, page) {
        Ok(PAGE_SIZE) => Ok(()),
        _ => Err(Lost),
    }
}

#[cfg(test)]
mod tests;
