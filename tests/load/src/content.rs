// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bytes that say what they are.
//!
//! Each write has a name (seed, file, generation), and each name an endless
//! content of cells. A cell of 32 bytes says of which name and the how-manieth
//! it is, with a check over both. So bytes that are stale, in the wrong place
//! or of somebody else are recognised for what they are, wherever they lie.

use std::fmt;

/// Bytes in a cell.
pub const CELL: usize = 32;

/// Which content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Of the run.
    pub seed: u32,
    /// Number of the file, or of the device.
    pub file: u32,
    /// Raised with each write.
    pub generation: u64,
}

/// What a cell says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which content.
    pub name: Name,
    /// Where in it, in bytes.
    pub at: u64,
}

impl fmt::Display for Claim {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name {
            seed,
            file,
            generation,
        } = self.name;
        write!(
            to,
            "generation {generation} of file {file} at {:#x} (seed {seed})",
            self.at
        )
    }
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): every bit of the
/// input reaches every bit of the output.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn cell(name: Name, index: u64) -> [u8; CELL] {
    let first = u64::from(name.seed) << 32 | u64::from(name.file);
    let check = mix(mix(first ^ index.rotate_left(40)) ^ name.generation);
    let mut cell = [0; CELL];
    let words = [first, index, name.generation, check];
    for (bytes, word) in cell.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    cell
}

/// Fills `to` with the content called `name`, from its byte `at` on.
pub fn fill(name: Name, at: u64, to: &mut [u8]) {
    let unit = CELL as u64;
    let mut index = at / unit;
    // Where the first cell is cut.
    let mut from = usize::try_from(at % unit).unwrap_or_default();
    let mut rest = to;
    while !rest.is_empty() {
        let count = rest.len().min(CELL - from);
        let (head, tail) = rest.split_at_mut(count);
        if let Some(bytes) = cell(name, index).get(from..from + count) {
            head.copy_from_slice(bytes);
        }
        rest = tail;
        index += 1;
        from = 0;
    }
}

/// What the 32 bytes at the start of `bytes` say of themselves, if they are a
/// whole cell.
pub fn claim(bytes: &[u8]) -> Option<Claim> {
    let found: &[u8; CELL] = bytes.first_chunk()?;
    let mut words = found
        .chunks_exact(8)
        .filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)));
    let (first, index, generation) = (words.next()?, words.next()?, words.next()?);
    let name = Name {
        seed: u32::try_from(first >> 32).ok()?,
        file: u32::try_from(first & u64::from(u32::MAX)).ok()?,
        generation,
    };
    let at = index.checked_mul(CELL as u64)?;
    (cell(name, index) == *found).then_some(Claim { name, at })
}

/// What the byte `at` of `bytes` belongs to: whose cell it is in, wherever that
/// begins, as it would have to be for the byte to be where it is. Words for a
/// message.
pub fn describe(bytes: &[u8], at: usize) -> String {
    let around = at.saturating_sub(CELL - 1)..=at;
    let whose = around.into_iter().find_map(|from| {
        let claim = claim(bytes.get(from..)?)?;
        let inside = u64::try_from(at - from).ok()?;
        Some(Claim {
            at: claim.at + inside,
            ..claim
        })
    });
    if let Some(claim) = whose {
        return claim.to_string();
    }
    let near = bytes.get(at..bytes.len().min(at + CELL));
    let near = near.unwrap_or_default();
    if near.iter().all(|byte| *byte == 0) {
        return "zeros".into();
    }
    let shown: Vec<String> = near.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("bytes of nobody: {}", shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Name = Name {
        seed: 7,
        file: 3,
        generation: 19,
    };

    #[test]
    fn a_part_of_the_content_is_what_the_whole_has_there() {
        let mut whole = [0; 300];
        fill(NAME, 1000, &mut whole);
        for (from, to) in [(0, 300), (1, 2), (24, 56), (31, 97), (299, 300)] {
            let mut part = vec![0; to - from];
            fill(NAME, 1000 + from as u64, &mut part);
            assert_eq!(part, whole[from..to]);
        }
    }

    #[test]
    fn a_cell_says_what_it_is_and_a_changed_one_does_not() {
        let mut bytes = [0; CELL];
        fill(NAME, 64, &mut bytes);
        assert_eq!(claim(&bytes), Some(Claim { name: NAME, at: 64 }));
        for at in 0..CELL {
            let mut bytes = bytes;
            bytes[at] ^= 4;
            assert_eq!(claim(&bytes), None);
        }
        assert_eq!(claim(&[0; CELL]), None);
        assert_eq!(claim(&bytes[1..]), None);
    }

    #[test]
    fn a_byte_is_traced_to_its_owner_from_anywhere() {
        let mut bytes = vec![0; 200];
        fill(NAME, 3000, &mut bytes[17..150]);
        let text = describe(&bytes, 100);
        assert!(text.contains("generation 19 of file 3"), "{text}");
        assert!(text.contains(&format!("{:#x}", 3000 + 83)), "{text}");
        assert_eq!(describe(&bytes, 160), "zeros");
        bytes[170] = 0xab;
        assert!(describe(&bytes, 170).contains("nobody: ab"));
    }
}
