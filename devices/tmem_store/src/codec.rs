// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How pages are kept: as one repeated word, compressed, or as they are.

mod lz4;
mod zstd;

use crate::tier::{Codec, MAX_COMPRESSED, Payload};
use crate::types::{Lost, PAGE_SIZE, Page};

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

/// Compresses `page` and hands the result to `keep`: at most [`MAX_COMPRESSED`]
/// bytes, or the page itself.
pub(crate) fn compress<T>(page: &Page, keep: impl FnOnce(Payload<'_>) -> T) -> T {
    let mut output = [0; lz4::BOUND];
    let bytes = lz4::compress(page, &mut output);
    let codec = Codec::Lz4;
    match bytes.filter(|bytes| bytes.len() <= MAX_COMPRESSED) {
        Some(bytes) => keep(Payload { codec, bytes }),
        None => keep(raw(page)),
    }
}

/// Compresses more what is kept of a page, for as long as it is not used, and hands
/// the result to `keep`: what is kept already, unless that gets smaller by an eighth.
pub(crate) fn recompress<T>(kept: Payload<'_>, keep: impl FnOnce(Payload<'_>) -> T) -> T {
    let mut page = [0; PAGE_SIZE];
    let mut output = [0; PAGE_SIZE];
    if matches!(kept.codec, Codec::Zstd | Codec::Same) || decode(Some(kept), &mut page).is_err() {
        return keep(kept);
    }
    let codec = Codec::Zstd;
    let bytes = zstd::compress(&page, &mut output);
    match bytes.filter(|bytes| bytes.len() <= kept.bytes.len() / 8 * 7) {
        Some(bytes) => keep(Payload { codec, bytes }),
        None => keep(kept),
    }
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
        Codec::Lz4 => lz4::decompress(bytes, page).ok_or(Lost),
        Codec::Zstd => zstd::decompress(bytes, page).ok_or(Lost),
    }
}

#[cfg(test)]
mod tests;
