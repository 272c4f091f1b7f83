// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Load that knows what every byte must be, for file systems and for disks.
//!
//! What a thread does follows from the seed and the thread's number alone.
//! Every read is compared; all of it once more, from the disk, whenever that
//! is asked for and at the end.

pub mod blocks;
pub mod buffer;
pub mod content;
pub mod control;
pub mod device;
pub mod files;
pub mod journal;
pub mod reads;
pub mod report;
pub mod runs;
pub mod scribble;
