// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use proptest::prelude::*;

use super::*;

/// What is kept of a page.
fn kept(page: &Page) -> Result<Vec<u8>, (Codec, Vec<u8>)> {
    match same_filled(page) {
        Some(kept) => Ok(kept.bytes.to_vec()),
        None => Err(compress(page, |kept| (kept.codec, kept.bytes.to_vec()))),
    }
}

/// What is kept of it once it is cold.
fn cold(page: &Page) -> (Codec, Vec<u8>) {
    compress(page, |kept| {
        recompress(kept, |kept| (kept.codec, kept.bytes.to_vec()))
    })
}

fn decode(codec: Codec, bytes: &[u8], page: &mut Page) -> Result<(), Lost> {
    super::decode(Some(Payload { codec, bytes }), page)
}

/// A page of `part` bytes that do not compress, and zeros.
fn mixed(part: usize) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut state = 1_u64;
    for byte in &mut page[..part] {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    page
}

#[test]
fn same_filled_pages_are_one_word() {
    for word in [0, 1, u64::MAX, 0x0102_0304_0506_0708] {
        let word = u64::to_le_bytes(word);
        let mut page = [0xee; PAGE_SIZE];
        page.as_chunks_mut::<8>().0.fill(word);
        let kept = kept(&page).expect("one word");
        assert_eq!(kept, if word == [0; 8] { &[][..] } else { &word });
        let mut back = [0xee; PAGE_SIZE];
        assert_eq!(decode(Codec::Same, &kept, &mut back), Ok(()));
        assert!(back == page);
    }
}

#[test]
fn one_different_byte_anywhere_is_not_same_filled() {
    for at in 0..PAGE_SIZE {
        let mut page = [0x11; PAGE_SIZE];
        page[at] = 0x12;
        let (codec, bytes) = kept(&page).expect_err("not the same");
        let mut back = [0; PAGE_SIZE];
        assert_eq!(decode(codec, &bytes, &mut back), Ok(()));
        assert!(back == page);
    }
}

#[test]
fn pages_that_compress_poorly_are_kept_raw() {
    let mut lengths = Vec::new();
    for part in (3400..3700).chain([0x1000]) {
        let page = mixed(part);
        let (codec, bytes) = kept(&page).expect_err("not the same");
        match codec {
            Codec::Raw => assert!(bytes == page),
            codec => assert!(codec == Codec::Lz4 && bytes.len() <= MAX_COMPRESSED),
        }
        let mut back = [0; PAGE_SIZE];
        assert_eq!(decode(codec, &bytes, &mut back), Ok(()));
        assert!(back == page);
        lengths.push(bytes.len());
    }
    assert!(lengths.contains(&MAX_COMPRESSED));
    assert!(lengths.contains(&PAGE_SIZE));
}

#[test]
fn encoding_can_be_nested() {
    let (outer, inner) = (mixed(1000), mixed(500));
    compress(&outer, |outer_kept| {
        let (codec, bytes) = kept(&inner).expect_err("not the same");
        let inner_kept = Payload {
            codec,
            bytes: &bytes,
        };
        for (kept, page) in [(outer_kept, &outer), (inner_kept, &inner)] {
            let mut back = [0; PAGE_SIZE];
            assert_eq!(super::decode(Some(kept), &mut back), Ok(()));
            assert!(back == *page);
        }
    });
}

#[test]
fn cold_pages_are_smaller_or_as_they_were() {
    let text: String = (1000..2024).map(|n: u32| n.to_string()).collect();
    let text = text.into_bytes();
    let text = text.try_into().expect("a page");
    for (page, expected) in [
        (mixed(PAGE_SIZE), Codec::Raw),
        (mixed(1000), Codec::Lz4),
        (text, Codec::Zstd),
    ] {
        let (_, before) = kept(&page).expect_err("not the same");
        let (codec, bytes) = cold(&page);
        assert_eq!(codec, expected);
        assert!(bytes == before || bytes.len() <= before.len() * 7 / 8);
        let mut back = [0; PAGE_SIZE];
        assert_eq!(decode(codec, &bytes, &mut back), Ok(()));
        assert!(back == page);
        // It is not compressed once more.
        let again = recompress(
            Payload {
                codec,
                bytes: &bytes,
            },
            |kept| kept.bytes.to_vec(),
        );
        assert_eq!(again, bytes);
    }
}

#[test]
fn frames_of_more_or_less_than_a_page_are_lost() {
    let mut page = [0; PAGE_SIZE];
    for len in [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, 64 << 10] {
        let mut frame = vec![0; 1 << 10];
        let len = zstd_safe::compress(frame.as_mut_slice(), &vec![7; len], 1).expect("room");
        assert_eq!(decode(Codec::Zstd, &frame[..len], &mut page), Err(Lost));
    }
}

#[test]
fn nothing_and_too_little_are_lost() {
    let mut page = [0; PAGE_SIZE];
    let (codec, bytes) = kept(&mixed(1000)).expect_err("not the same");
    let cut = &bytes[..bytes.len() - 1];
    for bytes in [&[][..], &[0], cut] {
        for codec in [Codec::Raw, codec] {
            assert_eq!(decode(codec, bytes, &mut page), Err(Lost));
        }
    }
}

#[test]
fn length_does_not_say_the_codec() {
    let mut page = [0; PAGE_SIZE];
    assert_eq!(decode(Codec::Lz4, &[0x11; PAGE_SIZE], &mut page), Err(Lost));
    assert_eq!(
        decode(Codec::Raw, &[0x11; PAGE_SIZE + 1], &mut page),
        Err(Lost)
    );
    assert_eq!(super::decode(None, &mut page), Err(Lost), "no known codec");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn garbage_decodes_or_is_lost_but_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..MAX_COMPRESSED)) {
        for codec in [Codec::Raw, Codec::Lz4, Codec::Zstd] {
            let _ = decode(codec, &bytes, &mut [0; PAGE_SIZE]);
        }
    }

    #[test]
    fn damaged_pages_decode_or_are_lost_but_never_panic(
        part in 1..2500_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut page = mixed(part);
        // Matches of all lengths and distances.
        page.copy_within(0..part.min(1500), 2500);
        for (codec, mut bytes) in [kept(&page).expect_err("not the same"), cold(&page)] {
            for (at, value) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            let _ = decode(codec, &bytes, &mut [0; PAGE_SIZE]);
        }
    }
}
