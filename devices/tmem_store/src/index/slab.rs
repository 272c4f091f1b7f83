// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Values in chunks, named by 32-bit numbers that stay valid as others come
//! and go. Growing never moves or copies a value; a chunk whose last value goes
//! is given back.

/// Values that a chunk holds.
const CHUNK: usize = 16;

/// Most values of a slab, so that `u32::MAX` never names one.
const MOST: usize = 1 << 31;

type Chunk<T> = Box<[Option<T>]>;

/// Bytes of memory behind a chunk.
const fn chunk_bytes<T>() -> usize {
    CHUNK * size_of::<Option<T>>()
}

#[derive(Debug)]
struct Slot<T> {
    /// `None`: no value is there.
    chunk: Option<Chunk<T>>,
    used: usize,
    /// The chunk is among those with vacant places.
    listed: bool,
}

/// Numbered values.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Slot<T>>,
    /// Numbers of chunks that had vacant places when they were listed.
    vacant: Vec<u32>,
    /// Chunks that hold memory.
    held: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            vacant: Vec::new(),
            held: 0,
        }
    }
}

impl<T> Slab<T> {
    /// Whether there are so few chunks that an empty slab may keep them.
    pub(super) fn is_small(&self) -> bool {
        self.chunks.len() <= 4
    }

    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Slot<T>>()
            + self.vacant.capacity() * size_of::<u32>()
            + self.held * chunk_bytes::<T>()
    }

    /// Most bytes by which the next insertion can grow the slab.
    pub(super) fn growth(&self) -> usize {
        let list = if self.chunks.len() == self.chunks.capacity() {
            self.chunks.capacity().max(4) * (size_of::<Slot<T>>() + size_of::<u32>())
        } else {
            0
        };
        list + chunk_bytes::<T>()
    }

    /// The value with this number.
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let slot = self.chunks.get(number as usize / CHUNK)?;
        slot.chunk.as_ref()?.get(number as usize % CHUNK)?.as_ref()
    }

    /// The value with this number.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let slot = self.chunks.get_mut(number as usize / CHUNK)?;
        slot.chunk
            .as_mut()?
            .get_mut(number as usize % CHUNK)?
            .as_mut()
    }

    /// The number of a chunk with a vacant place and memory. `None` if the
    /// system has no memory or all numbers are taken.
    fn vacancy(&mut self) -> Option<u32> {
        let number = match self.vacant.last() {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.chunks.len()).ok()?;
                if (self.chunks.len() + 1) * CHUNK > MOST {
                    return None;
                }
                self.chunks.try_reserve(1).ok()?;
                // Every chunk may be listed, and removing must not fail.
                let more = self.chunks.capacity() - self.vacant.len();
                self.vacant.try_reserve_exact(more).ok()?;
                self.chunks.push(Slot {
                    chunk: None,
                    used: 0,
                    listed: true,
                });
                self.vacant.push(number);
                number
            }
        };
        let slot = self.chunks.get_mut(number as usize)?;
        if slot.chunk.is_none() {
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(CHUNK).ok()?;
            chunk.resize_with(CHUNK, || None);
            slot.chunk = Some(chunk.into_boxed_slice());
            self.held += 1;
        }
        Some(number)
    }

    /// Adds a value and returns its number. `None` if there is no memory.
    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        let number = self.vacancy()?;
        let slot = self.chunks.get_mut(number as usize)?;
        let chunk = slot.chunk.as_mut()?;
        let (nth, place) = chunk.iter_mut().enumerate().find(|(_, v)| v.is_none())?;
        *place = Some(value);
        slot.used += 1;
        if slot.used == CHUNK {
            slot.listed = false;
            self.vacant.pop();
        }
        u32::try_from(number as usize * CHUNK + nth).ok()
    }

    /// Removes the value with this number.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let at = number as usize / CHUNK;
        let slot = self.chunks.get_mut(at)?;
        let place = slot.chunk.as_mut()?.get_mut(number as usize % CHUNK)?;
        let value = place.take()?;
        slot.used -= 1;
        // One empty chunk is kept if it is the only one.
        if slot.used == 0 && self.held > 1 {
            slot.chunk = None;
            self.held -= 1;
        }
        if !std::mem::replace(&mut slot.listed, true) {
            self.vacant.push(u32::try_from(at).ok()?);
        }
        Some(value)
    }
}
