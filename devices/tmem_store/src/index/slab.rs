// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Values in chunks, named by 32-bit numbers that stay valid as others come
//! and go. Growing never moves or copies a value.

/// Values that a chunk holds.
const CHUNK: usize = 16;

/// Most values of a slab, so that `u32::MAX` never names one.
const MOST: usize = 1 << 31;

#[derive(Debug)]
enum Place<T> {
    Used(T),
    /// The next vacant place.
    Vacant(Option<u32>),
}

/// Numbered values.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Box<[Place<T>]>>,
    vacant: Option<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            vacant: None,
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    /// Values held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are so few chunks that an empty slab may keep them.
    pub(super) fn is_small(&self) -> bool {
        self.chunks.len() <= 4
    }

    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Box<[Place<T>]>>()
            + self.chunks.len() * CHUNK * size_of::<Place<T>>()
    }

    /// Most bytes by which the next insertion can grow the slab.
    pub(super) fn growth(&self) -> usize {
        if self.vacant.is_some() {
            return 0;
        }
        let list = if self.chunks.len() == self.chunks.capacity() {
            self.chunks.capacity().max(4) * size_of::<Box<[Place<T>]>>()
        } else {
            0
        };
        list + CHUNK * size_of::<Place<T>>()
    }

    fn place(&mut self, number: u32) -> Option<&mut Place<T>> {
        self.chunks
            .get_mut(number as usize / CHUNK)?
            .get_mut(number as usize % CHUNK)
    }

    /// The value with this number.
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let chunk = self.chunks.get(number as usize / CHUNK)?;
        match chunk.get(number as usize % CHUNK)? {
            Place::Used(value) => Some(value),
            Place::Vacant(_) => None,
        }
    }

    /// The value with this number.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        match self.place(number)? {
            Place::Used(value) => Some(value),
            Place::Vacant(_) => None,
        }
    }

    /// Adds a chunk of vacant places if there are none. `None` if the system
    /// has no memory or all numbers are taken.
    fn grow(&mut self) -> Option<()> {
        if self.vacant.is_some() {
            return Some(());
        }
        let first = self.chunks.len() * CHUNK;
        if first + CHUNK > MOST {
            return None;
        }
        self.chunks.try_reserve(1).ok()?;
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK).ok()?;
        for nth in 0..CHUNK {
            let next = u32::try_from(first + nth + 1).ok()?;
            chunk.push(Place::Vacant((nth + 1 < CHUNK).then_some(next)));
        }
        self.chunks.push(chunk.into_boxed_slice());
        self.vacant = Some(u32::try_from(first).ok()?);
        Some(())
    }

    /// Adds a value and returns its number. `None` if there is no memory.
    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        self.grow()?;
        let number = self.vacant?;
        let place = self.place(number)?;
        let Place::Vacant(next) = *place else {
            return None;
        };
        *place = Place::Used(value);
        self.vacant = next;
        self.len += 1;
        Some(number)
    }

    /// Removes the value with this number.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let vacant = self.vacant;
        let place = self.place(number)?;
        if matches!(place, Place::Vacant(_)) {
            return None;
        }
        let Place::Used(value) = std::mem::replace(place, Place::Vacant(vacant)) else {
            return None;
        };
        self.vacant = Some(number);
        self.len -= 1;
        Some(value)
    }

    /// All values, in order of their numbers.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks
            .iter_mut()
            .flatten()
            .filter_map(|place| match place {
                Place::Used(value) => Some(value),
                Place::Vacant(_) => None,
            })
    }
}
