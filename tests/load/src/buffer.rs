// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that O_DIRECT takes.

/// What is enough for every device: a page.
const ALIGNMENT: usize = 4096;

/// Bytes that begin at a page's boundary.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    from: usize,
    length: usize,
}

impl Buffer {
    /// `length` zeros.
    pub fn new(length: usize) -> Self {
        let bytes = vec![0; length + ALIGNMENT];
        let from = bytes.as_ptr().align_offset(ALIGNMENT);
        Self {
            bytes,
            from,
            length,
        }
    }

    /// The first `length` bytes, or all if there are not as many.
    pub fn first(&mut self, length: usize) -> &mut [u8] {
        let length = length.min(self.length);
        self.bytes
            .get_mut(self.from..self.from + length)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_page_and_is_as_long_as_asked() {
        for length in [0, 1, 4096, 100_000] {
            let mut buffer = Buffer::new(length);
            assert_eq!(buffer.first(usize::MAX).len(), length);
            assert_eq!(buffer.first(length).as_ptr().align_offset(ALIGNMENT), 0);
        }
    }
}
