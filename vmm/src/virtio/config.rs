// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration spaces as bytes.

/// Fills `data` with what `space` has from `offset` on, and with zeros beyond
/// its end.
pub(super) fn read(space: &[u8], offset: u64, data: &mut [u8]) {
    data.fill(0);
    let rest = usize::try_from(offset)
        .ok()
        .and_then(|offset| space.get(offset..))
        .unwrap_or_default();
    for (to, from) in data.iter_mut().zip(rest) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn reads_beyond_the_end_give_zeros() {
        let space = [1, 2, 3];
        let mut data = [9; 2];
        for (offset, expected) in [(0, [1, 2]), (2, [3, 0]), (3, [0, 0]), (u64::MAX, [0, 0])] {
            read(&space, offset, &mut data);
            assert_eq!(data, expected, "offset {offset}");
        }
    }
}
