// SPDX-License-Identifier: GPL-2.0

//! The memory of one request: everything that its descriptors name.
//!
//! A chain owns all of it, so a chain that a virtqueue owns can be read and written by the device
//! without anybody else touching it.

use super::{
    bindings,
    bio::{
        Bio,
        BioList,
        SEGMENT_BYTES, //
    },
};
use kernel::prelude::*;

/// Descriptors beside those for the bios: header, payload and answer.
pub(crate) const EXTRA_DESCRIPTORS: usize = 3;

/// Most bytes of a header.
pub(crate) const HEADER_BYTES: usize = 64;

/// Which way the memory of the bios goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// The device reads it.
    ToDevice,
    /// The device writes it, after the answer.
    FromDevice,
    /// Neither: the bios have no memory.
    None,
}

/// A request's header, payload, answer and bios.
pub(crate) struct Chain {
    table: KVec<Entry>,
    header: KVec<u8>,
    payload: KVec<u8>,
    answer: KVec<u8>,
    answer_len: usize,
    data: Data,
    segments: usize,
    bios: BioList,
}

/// One entry of a scatter-gather list.
struct Entry(kernel::bindings::scatterlist);

// SAFETY: The entries are plain data; what they point to is owned by the chain.
unsafe impl Send for Entry {}
// SAFETY: Nothing is changed through `&self`.
unsafe impl Sync for Entry {}

impl Chain {
    /// Makes a chain with room for `segments` parts of bios, a payload of `payload` bytes and an
    /// answer of `answer` bytes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(segments: usize, payload: usize, answer: usize) -> Result<Self> {
        let room = segments + EXTRA_DESCRIPTORS;
        let mut table = KVec::with_capacity(room, GFP_KERNEL)?;
        for _ in 0..room {
            table.push(Entry(pin_init::zeroed()), GFP_KERNEL)?;
        }
        Ok(Self {
            table,
            header: KVec::with_capacity(HEADER_BYTES, GFP_KERNEL)?,
            payload: KVec::with_capacity(payload, GFP_KERNEL)?,
            answer: KVec::from_elem(0, answer, GFP_KERNEL)?,
            answer_len: 0,
            data: Data::None,
            segments: 0,
            bios: BioList::new(),
        })
    }

    /// Sets the first bytes that the device reads, cut to [`HEADER_BYTES`].
    pub(crate) fn set_header(&mut self, header: &[u8]) {
        self.header.clear();
        for byte in header {
            // The room is never exceeded by what is not cut.
            let _ = self.header.push_within_capacity(*byte);
        }
    }

    /// Sets how many bytes the device writes, cut to the room for them. They are `fill` until it
    /// does.
    pub(crate) fn expect_answer(&mut self, len: usize, fill: u8) {
        self.answer_len = len.min(self.answer.len());
        if let Some(answer) = self.answer.get_mut(..self.answer_len) {
            answer.fill(fill);
        }
    }

    /// Removes the payload that follows the header.
    pub(crate) fn clear_payload(&mut self) {
        self.payload.clear();
    }

    /// Appends to the payload that follows the header.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the room that the chain was made with is used up.
    pub(crate) fn push_payload(&mut self, bytes: &[u8]) -> Result {
        if self.payload.capacity() - self.payload.len() < bytes.len() {
            return Err(ENOSPC);
        }
        Ok(self.payload.extend_from_slice(bytes, GFP_ATOMIC)?)
    }

    /// The bytes of the payload.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The bytes of the answer.
    pub(crate) fn answer(&self) -> &[u8] {
        self.answer.get(..self.answer_len).unwrap_or_default()
    }

    /// Sets which way the memory of the bios goes.
    pub(crate) fn set_data(&mut self, data: Data) {
        self.data = data;
    }

    /// Whether `bio` fits among `most` parts of bios.
    pub(crate) fn has_room_for(&self, bio: &Bio, most: usize) -> bool {
        let most = most.min(self.table.len().saturating_sub(EXTRA_DESCRIPTORS));
        self.segments + self.count_segments(bio) <= most
    }

    /// Appends a bio. What does not fit is cut off the list of descriptors, so ask
    /// [`Self::has_room_for`] first.
    pub(crate) fn push_bio(&mut self, bio: Bio) {
        self.segments += self.count_segments(&bio);
        self.bios.push(bio);
    }

    /// Takes the bios.
    pub(crate) fn take_bios(&mut self) -> BioList {
        self.segments = 0;
        core::mem::replace(&mut self.bios, BioList::new())
    }

    fn count_segments(&self, bio: &Bio) -> usize {
        let mut count = 0;
        if self.data != Data::None {
            bio.for_each_segment(SEGMENT_BYTES, |_| count += 1);
        }
        count
    }

    /// Writes the scatter-gather lists: one that the device reads and one that it writes, each
    /// empty or with an end mark. They point into the chain's own buffers and its bios' memory,
    /// and stay valid until the chain is changed, moved or dropped.
    pub(super) fn lists(&mut self) -> Lists<'_> {
        let Self {
            table,
            header,
            payload,
            answer,
            answer_len,
            data,
            bios,
            ..
        } = self;
        let mut writer = Writer { table, used: 0 };
        writer.push_buffer(header);
        writer.push_buffer(payload);
        if *data == Data::ToDevice {
            writer.push_bios(bios);
        }
        writer.end();
        let readable = writer.used;
        writer.push_buffer(answer.get(..*answer_len).unwrap_or_default());
        if *data == Data::FromDevice {
            writer.push_bios(bios);
        }
        if writer.used > readable {
            writer.end();
        }
        let used = writer.used;
        let (first, rest) = table.split_at_mut(readable);
        Lists {
            readable: first,
            writable: rest.get_mut(..used - readable).unwrap_or_default(),
        }
    }
}

/// See [`Chain::lists`].
pub(super) struct Lists<'a> {
    readable: &'a mut [Entry],
    writable: &'a mut [Entry],
}

impl Lists<'_> {
    /// The lists as the virtqueue wants them, how many the device reads and how many it writes.
    pub(super) fn raw(&mut self) -> ([*mut kernel::bindings::scatterlist; 2], u32, u32) {
        let mut raw = [core::ptr::null_mut(); 2];
        let lists = [&mut *self.readable, &mut *self.writable];
        let used = lists.into_iter().filter(|list| !list.is_empty());
        for (slot, list) in raw.iter_mut().zip(used) {
            *slot = list.as_mut_ptr().cast();
        }
        (
            raw,
            u32::from(!self.readable.is_empty()),
            u32::from(!self.writable.is_empty()),
        )
    }
}

struct Writer<'a> {
    table: &'a mut KVec<Entry>,
    used: usize,
}

impl Writer<'_> {
    fn push_buffer(&mut self, buffer: &[u8]) {
        if buffer.is_empty() {
            return;
        }
        if let Some(entry) = self.table.get_mut(self.used) {
            // SAFETY: The entry is valid, and the buffer is from `KVec`, so it is in the linear
            // mapping.
            unsafe {
                bindings::tmem_sg_set_buf(&mut entry.0, buffer.as_ptr().cast(), buffer.len() as u32)
            };
            self.used += 1;
        }
    }

    fn push_bios(&mut self, bios: &BioList) {
        for bio in bios.iter() {
            bio.for_each_segment(SEGMENT_BYTES, |segment| {
                if let Some(entry) = self.table.get_mut(self.used) {
                    // SAFETY: The entry is valid, and the page belongs to an owned bio.
                    unsafe {
                        bindings::tmem_sg_set_page(
                            &mut entry.0,
                            segment.page,
                            segment.len,
                            segment.offset,
                        )
                    };
                    self.used += 1;
                }
            });
        }
    }

    fn end(&mut self) {
        if let Some(entry) = self.used.checked_sub(1).and_then(|i| self.table.get_mut(i)) {
            // SAFETY: The entry is valid and was set.
            unsafe { bindings::tmem_sg_mark_end(&mut entry.0) };
        }
    }
}
