// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Places for pages that memory has no room for. What is in them is for others to say.
//!
//! [`Area`] is what the store asks of such a place; [`SpillArea`] is a file or a block device. Others are
//! outside of the store.

mod aligned;
mod file;
mod ring;

pub(crate) use aligned::{Aligned, Blocks, WINDOW};
pub use file::{SpillArea, SpillError};

use crate::types::Identity;
use std::fmt::Debug;
use std::io;

/// Bytes of a segment, the unit in which an [`Area`] is used.
pub const SEGMENT_BYTES: usize = 128 << 10;

/// A segment of an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentKey {
    /// Its number in the area, from 1 to [`Area::segments`]. No two that are in use have the same.
    pub slot: u32,
    /// Whose pages it has.
    pub client: Identity,
    /// No two segments of a store ever have the same, those of stores that it has taken over included.
    pub sequence: u64,
}

/// A read that was begun. Who drops it does not want it any more.
pub trait Reading: Debug {
    /// Waits for as many bytes as were asked for, as [`Area::read`] does.
    ///
    /// # Errors
    /// As [`Area::read`].
    fn finish(self: Box<Self>, bytes: &mut [u8], go_on: &mut dyn FnMut() -> bool)
    -> io::Result<()>;
}

/// A place outside memory that a store moves segments of pages to.
///
/// It need not tell whether what it gives is what was written: the store has checksums. Nor does it
/// know after a restart which segments are in use: the store does.
pub trait Area: Debug + Send + Sync {
    /// What operators call it.
    fn name(&self) -> String;

    /// What tells it from others, and from what it was before it was made anew ([`Area::renew`]).
    fn identity(&self) -> u64;

    /// How many segments there is room for.
    fn segments(&self) -> u32;

    /// Reads begin and end at multiples of so many bytes of a segment: a power of two, at most a page.
    fn align(&self) -> usize {
        1
    }

    /// Whether others have to answer before a read or write has ended. Then nobody but the demoter
    /// ever writes, also if there is none ([`Store::start_demoter_with`](crate::Store::start_demoter_with)).
    fn is_remote(&self) -> bool {
        false
    }

    /// Makes it another area: what was in it does not count any more.
    ///
    /// # Errors
    /// What the system says.
    fn renew(&self) -> io::Result<()>;

    /// Goes on as the area with this identity, of which a store has pages; whether it can. Asked only if
    /// its own is another one.
    fn take_over(&self, _identity: u64) -> bool {
        false
    }

    /// Reads bytes of a segment, from `offset` on. A read that takes long asks `go_on` now and then
    /// whether it may.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::Interrupted`] if `go_on` stopped it.
    fn read(
        &self,
        segment: SegmentKey,
        offset: usize,
        bytes: &mut [u8],
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()>;

    /// Whether reads can be under way together ([`Area::begin`]).
    fn reads_ahead(&self) -> bool {
        self.is_remote()
    }

    /// Begins to read `len` bytes of a segment, from `offset` on, without waiting for them. `None`: that
    /// is not worth anything here, or not now.
    fn begin(&self, _segment: SegmentKey, _offset: usize, _len: usize) -> Option<Box<dyn Reading>> {
        None
    }

    /// Writes the first bytes of a segment; the others do not count.
    ///
    /// # Errors
    /// What the system says. The segment need not be there then, in part or at all. If it has no room,
    /// [`io::ErrorKind::StorageFull`].
    fn write(&self, segment: SegmentKey, bytes: &[u8]) -> io::Result<()>;

    /// A segment is needed no longer. Must not block.
    fn forget(&self, _segment: SegmentKey) {}
}
