// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How pages are kept: as one repeated word, compressed, or as they are.

use std::cell::RefCell;

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use crate::tier::{Codec, MAX_COMPRESSED, Payload};
use crate::types::{Lost, PAGE_SIZE, Page};

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

    fn compress<'a>(&'a mut self, page: &'a Page) -> Payload<'a> {
        let len = compress_into_with_table(page, &mut self.output, &mut self.table);
        let len = len.ok().filter(|len| *len <= MAX_COMPRESSED);
        match len.and_then(|len| self.output.get(..len)) {
            Some(bytes) => Payload {
                codec: Codec::Lz4,
                bytes,
            },
            None => raw(page),
        }
    }
}

/// The page as it is.
pub(crate) fn raw(page: &Page) -> Payload<'_> {
    Payload {
        codec: Codec::Raw,
        bytes: page,
    }
}

/// The page as a word that it repeats, if it does.
pub(crate) fn same_filled(page: &Page) -> Option<Payload<'_>> {
    let words = page.as_chunks::<8>().0;
    let (first, last) = (words.first()?, words.last()?);
    // Ends differ in most pages: one comparison then.
    let same = first == last
        && words
            .as_chunks::<8>()
            .0
            .iter()
            .all(|line| *line == [*first; 8]);
    let bytes: &[u8] = if *first == [0; 8] { &[] } else { first };
    same.then_some(Payload {
        codec: Codec::Same,
        bytes,
    })
}

/// Compresses `page` and hands the result to `keep`: at most
/// [`MAX_COMPRESSED`] bytes, or the page itself. `keep` may call this once
/// more, but not deeper, to be fast: a put that finds no memory compresses
/// pages that wait for it.
pub(crate) fn compress<T>(page: &Page, keep: impl FnOnce(Payload<'_>) -> T) -> T {
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

/// Brings a page back from what was kept of it.
///
/// # Errors
/// When the payload does not decode to exactly one page, or there is none: its codec
/// is not known.
pub(crate) fn decode(payload: Option<Payload<'_>>, page: &mut Page) -> Result<(), Lost> {
    let Payload { codec, bytes } = payload.ok_or(Lost)?;
    match codec {
        Codec::Raw => {
            *page = *<&Page>::try_from(bytes).map_err(|_| Lost)?;
            Ok(())
        }
        Codec::Same => {
            let word = match bytes {
                [] => [0; 8],
                bytes => bytes.try_into().map_err(|_| Lost)?,
            };
            page.as_chunks_mut::<8>().0.fill(word);
            Ok(())
        }
        Codec::Lz4 => match decompress_into(bytes, page) {
            Ok(PAGE_SIZE) => Ok(()),
            _ => Err(Lost),
        },
    }
}

#[cfg(test)]
mod tests;
