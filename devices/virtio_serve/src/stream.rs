// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bytes of a request and of its answer, wherever they are: in the buffers of a
//! chain, or in memory of whoever embeds the device.

/// The bytes asked for, or the room for them, are not in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmapped;

/// The device-readable bytes of a request, from first to last.
pub trait Source {
    /// Bytes not yet passed.
    fn remaining(&self) -> u64;

    /// Copies the next `to.len()` bytes and passes them, also when they cannot
    /// be read. There must be that many.
    ///
    /// # Errors
    /// [`Unmapped`], also when fewer bytes remain; `to` is then unspecified.
    fn read(&mut self, to: &mut [u8]) -> Result<(), Unmapped>;
}

/// The device-writable bytes of a request, from first to last.
pub trait Sink {
    /// Bytes not yet passed.
    fn remaining(&self) -> u64;

    /// Whether the next `count` bytes are there and can be written.
    fn is_mapped(&self, count: u64) -> bool;

    /// Writes the next `from.len()` bytes and passes them, also when they
    /// cannot be written.
    ///
    /// # Errors
    /// [`Unmapped`], also when fewer bytes remain.
    fn write(&mut self, from: &[u8]) -> Result<(), Unmapped>;

    /// Passes `count` bytes untouched.
    fn skip(&mut self, count: u64);

    /// Takes the first `count` of the remaining bytes off, as a sink of their
    /// own: the statuses of a request are written apart from its pages.
    fn split_off_front(&mut self, count: u64) -> Self;
}

impl Source for &[u8] {
    fn remaining(&self) -> u64 {
        self.len() as u64
    }

    fn read(&mut self, to: &mut [u8]) -> Result<(), Unmapped> {
        let (now, later) = self.split_at_checked(to.len()).ok_or(Unmapped)?;
        to.copy_from_slice(now);
        *self = later;
        Ok(())
    }
}

impl Sink for &mut [u8] {
    fn remaining(&self) -> u64 {
        self.len() as u64
    }

    fn is_mapped(&self, count: u64) -> bool {
        count <= self.len() as u64
    }

    fn write(&mut self, from: &[u8]) -> Result<(), Unmapped> {
        if from.len() > self.len() {
            return Err(Unmapped);
        }
        self.split_off_front(from.len() as u64)
            .copy_from_slice(from);
        Ok(())
    }

    fn skip(&mut self, count: u64) {
        self.split_off_front(count);
    }

    fn split_off_front(&mut self, count: u64) -> Self {
        let count = usize::try_from(count).map_or(self.len(), |count| count.min(self.len()));
        let (front, rest) = std::mem::take(self).split_at_mut(count);
        *self = rest;
        front
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_read_from_its_front_and_not_beyond_its_end() {
        let mut source = &b"abcdef"[..];
        let mut two = [0; 2];
        assert_eq!(source.read(&mut two), Ok(()));
        assert_eq!((&two, source.remaining()), (b"ab", 4));
        assert_eq!(source.read(&mut [0; 5]), Err(Unmapped));
        assert_eq!(source.read(&mut []), Ok(()));
    }

    #[test]
    fn a_slice_is_written_from_its_front_and_not_beyond_its_end() {
        let mut bytes = [0; 8];
        let mut sink = &mut bytes[..];
        let mut head = sink.split_off_front(2);
        assert!(sink.is_mapped(6) && !sink.is_mapped(7));
        assert_eq!(sink.write(b"page"), Ok(()));
        assert_eq!(sink.write(b"page"), Err(Unmapped));
        sink.skip(1);
        assert_eq!(Sink::remaining(&sink), 1);
        assert_eq!(head.write(b"ok"), Ok(()));
        assert!(sink.split_off_front(9).len() == 1 && sink.is_empty());
        assert_eq!(&bytes, b"okpage\0\0");
    }
}
