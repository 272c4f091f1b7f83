// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory of the VM that it gives back: punched out of the file that backs it,
//! so that every process that maps the file loses it, and the host has it.
//!
//! The file and its mappings stay as long as they are: who reads or writes there
//! afterwards, rightly or not, finds zeros in fresh memory. So a driver that gives
//! back what it still uses harms nothing but its own data.
//!
//! That holds where the host has fresh memory. A pool of huge pages may be empty by
//! then, and a file system full: the VM could not go on. So such memory stays,
//! unless the operator allows otherwise ([`GiveBack`]).

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use tmem_wire::MemoryRange;

/// Why memory was not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreleased {
    /// It is not the VM's, or not as a whole.
    Foreign,
    /// It is not backed by a file, or not certain to come back, or only a part
    /// of a page.
    Kept,
    /// The host has refused.
    Failed,
}

/// Which memory goes back to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GiveBack {
    /// What is certain to come back when the VM touches it again: that of a memfd,
    /// or of another tmpfs without a limit, in ordinary pages.
    #[default]
    Certain,
    /// Whatever a file backs, in whole pages of the file system. The VM may come to
    /// its end where the host has no huge page, or no room in the file system,
    /// by then.
    Any,
}

impl GiveBack {
    /// What operators call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Any => "any",
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// A sentence that says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "certain" => Ok(Self::Certain),
            "any" => Ok(Self::Any),
            _ => Err(format!(
                "'{text}' is no memory to give back; write certain or any"
            )),
        }
    }
}

/// How much of a VM's memory the host backs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backing {
    /// Bytes of memory that files back.
    pub bytes: u64,
    /// Bytes that these files hold now.
    pub backed: u64,
}

impl Backing {
    /// Bytes of the VM's memory that the host has for others.
    pub fn given(&self) -> u64 {
        self.bytes.saturating_sub(self.backed)
    }
}

/// Memory of a VM.
pub trait Frames {
    /// Gives whole pages back to the host, as far as `which` says, while no request
    /// of the device reads or writes the VM's memory.
    ///
    /// # Errors
    /// Nothing of a range that is [`Unreleased::Foreign`] or
    /// [`Unreleased::Kept`] was given back; of one that has failed, some may be.
    fn release(
        &self,
        range: &MemoryRange,
        which: GiveBack,
        in_use: &InUse,
    ) -> Result<(), Unreleased>;

    /// How much of it the host backs; none if that cannot be known.
    fn backing(&self) -> Option<Backing>;
}

/// Requests that read or write the VM's memory, as opposed to those that give it
/// back.
#[derive(Debug, Default)]
pub struct InUse(RwLock<()>);

impl InUse {
    /// The memory is in use while the guard lives.
    pub(super) fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `release` while no request reads or writes the memory: what
    /// [`Frames::release`] does with it.
    pub fn alone<T>(&self, release: impl FnOnce() -> T) -> T {
        let _alone = self.0.write().unwrap_or_else(PoisonError::into_inner);
        release()
    }
}

/// Memory of a VM that gives none back.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFrames;

impl Frames for NoFrames {
    fn release(&self, _: &MemoryRange, _: GiveBack, _: &InUse) -> Result<(), Unreleased> {
        Err(Unreleased::Kept)
    }

    fn backing(&self) -> Option<Backing> {
        None
    }
}
