// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration spaces as bytes.

/// The `size` bytes that `space` has from `offset` on, and zeros beyond its end.
pub(super) fn read(space: &[u8], offset: u32, size: u32) -> Vec<u8> {
    let rest = space.iter().skip(offset as usize).copied();
    let zeros = std::iter::repeat(0);
    rest.chain(zeros).take(size as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn reads_beyond_the_end_give_zeros() {
        let space = [1, 2, 3];
        for (offset, expected) in [(0, [1, 2]), (2, [3, 0]), (3, [0, 0]), (u32::MAX, [0, 0])] {
            assert_eq!(read(&space, offset, 2), expected, "offset {offset}");
        }
    }
}
