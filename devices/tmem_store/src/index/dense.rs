// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Values packed without holes, named by 32-bit numbers.
//!
//! Removing a value moves the last one into its place, so that memory follows
//! the number of values, whatever the order in which they go. Who keeps numbers
//! elsewhere has to change the one that moved.

/// Values in a chunk. Growing never moves or copies a value.
const CHUNK: usize = 16;

/// Most values, so that `u32::MAX` never names one.
const MOST: usize = 1 << 31;

/// Numbered values.
#[derive(Debug)]
pub(super) struct Dense<T> {
    /// All full, then one that is not, then at most two that are empty.
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Dense<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Dense<T> {
    /// Values held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are so few chunks that an empty one may keep them.
    pub(super) fn is_small(&self) -> bool {
        self.chunks.len() <= 4
    }

    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Vec<T>>() + self.chunks.len() * CHUNK * size_of::<T>()
    }

    /// Most bytes by which the next insertion can grow it.
    pub(super) fn growth(&self) -> usize {
        if self.len < self.chunks.len() * CHUNK {
            return 0;
        }
        let list = if self.chunks.len() == self.chunks.capacity() {
            self.chunks.capacity().max(4) * size_of::<Vec<T>>()
        } else {
            0
        };
        list + CHUNK * size_of::<T>()
    }

    /// The value with this number.
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let chunk = self.chunks.get(number as usize / CHUNK)?;
        chunk.get(number as usize % CHUNK)
    }

    /// The value with this number.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(number as usize / CHUNK)?;
        chunk.get_mut(number as usize % CHUNK)
    }

    /// Adds a value and returns its number. `None` if there is no memory.
    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        if self.len >= MOST {
            return None;
        }
        if self.len == self.chunks.len() * CHUNK {
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(CHUNK).ok()?;
            self.chunks.try_reserve(1).ok()?;
            self.chunks.push(chunk);
        }
        let number = u32::try_from(self.len).ok()?;
        self.chunks.get_mut(self.len / CHUNK)?.push(value);
        self.len += 1;
        Some(number)
    }

    /// Removes the value with this number; the value that had the returned
    /// number has this one now, if there is one.
    pub(super) fn remove(&mut self, number: u32) -> Option<(T, Option<u32>)> {
        let last = self.len.checked_sub(1)?;
        if number as usize > last {
            return None;
        }
        let mut value = self.chunks.get_mut(last / CHUNK)?.pop()?;
        self.len = last;
        self.shrink();
        let last = u32::try_from(last).ok()?;
        if number == last {
            return Some((value, None));
        }
        std::mem::swap(self.get_mut(number)?, &mut value);
        Some((value, Some(last)))
    }

    /// Gives back chunks that are not needed, but for two, so that values that
    /// come and go in turn do not go to the allocator each time. (Two: a stretch
    /// of blocks that comes or goes together fills one.)
    fn shrink(&mut self) {
        let needed = self.len.div_ceil(CHUNK);
        if self.chunks.len() > needed + 2 {
            self.chunks.pop();
        }
        if self.chunks.capacity() > 64 && self.chunks.len() < self.chunks.capacity() / 4 {
            self.chunks.shrink_to(self.chunks.capacity() / 2);
        }
    }

    /// All values.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_packed_and_memory_follows_them() {
        let mut dense = Dense::default();
        let mut names: Vec<u32> = Vec::new();
        for value in 0..1000_u32 {
            assert_eq!(dense.insert([u64::from(value); 25]), Some(value));
            names.push(value);
        }
        let full = dense.bytes();
        let mut seed = 1_u32;
        while !names.is_empty() {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = seed % u32::try_from(names.len()).unwrap();
            let expected = names.swap_remove(number as usize);
            let (value, moved) = dense.remove(number).unwrap();
            assert_eq!(value, [u64::from(expected); 25]);
            let last = u32::try_from(names.len()).unwrap();
            assert_eq!(moved, (number != last).then_some(last));
            for (at, name) in names.iter().enumerate() {
                let value = dense.get(u32::try_from(at).unwrap());
                assert_eq!(value, Some(&[u64::from(*name); 25]));
            }
            assert!(dense.bytes() <= full * (names.len() + 200) / 1000);
        }
        assert_eq!(dense.remove(0), None);
    }
}
