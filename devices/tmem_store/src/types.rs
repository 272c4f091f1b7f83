// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages, handles and the outcomes of operations.

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// The content of one page.
pub type Page = [u8; PAGE_SIZE];

/// Names an object inside a pool: 192 bits that the store does not interpret.
pub type ObjectId = [u8; 24];

/// Who a client is, also after a restart: 128 bits, of which no two clients of a store
/// have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity([u8; 16]);

impl Identity {
    /// The identity with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// One that nobody else has.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self(bytes))
    }

    /// Its bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    pub(crate) fn to_words(self) -> [u64; 2] {
        let all = u128::from_le_bytes(self.0);
        #[expect(clippy::cast_possible_truncation, reason = "takes halves apart")]
        [all as u64, (all >> 64) as u64]
    }

    pub(crate) fn from_words([a, b]: [u64; 2]) -> Self {
        let words = u128::from(a) | u128::from(b) << 64;
        Self(words.to_le_bytes())
    }
}

/// What a pool promises about its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// An accepted page stays until it is flushed or its pool is destroyed.
    Persistent,
    /// A page may vanish at any time, but is never stale.
    Ephemeral,
}

/// Why a put was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// The client's or the pool's quota is used up.
    Quota,
    /// The store's memory limit is reached and nothing can be evicted.
    Memory,
    /// The client is frozen and the page is not a duplicate.
    Frozen,
    /// The pool was destroyed.
    PoolGone,
    /// The caller could not read the page's data.
    Unreadable,
}

/// Outcome of a put of one page.
///
/// A refused put leaves nothing under the handle: if an older page was there,
/// it is removed and `prior_removed` says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Whether the page was accepted.
    pub result: Result<(), Refused>,
    /// An older page under the same handle was there and is gone: replaced if
    /// `result` is `Ok`, removed otherwise.
    pub prior_removed: bool,
}

/// Outcome of a get of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Get {
    /// The page was copied out.
    Hit,
    /// Nothing is under this handle; the buffer was not written.
    Miss,
    /// A page is under this handle but its bytes cannot be brought back. The
    /// content of the buffer is unspecified.
    Lost,
}

/// A page is there but its bytes cannot be brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the page is in the store but its bytes cannot be brought back")]
pub struct Lost;

/// What a run of gets hands out for one page: the page, or `None` on a miss.
pub type Found<'a> = Result<Option<&'a Page>, Lost>;

/// Outcome of the creation of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// A new, empty pool.
    New,
    /// A pool with this id and of this kind was there; it keeps its pages.
    Existing,
}

/// Why a pool was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The id is taken by a pool of the other kind.
    #[error("the pool exists and is of the other kind; destroy it first or use another id")]
    Conflict,
    /// The id is not below the client's `max_pools`.
    #[error("the pool id is not below the client's limit of pools")]
    TooMany,
    /// The client's quota or the store's memory has no room for a pool.
    #[error("no memory is left for another pool")]
    NoMemory,
}

/// Why a store or a client could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The memory limit is too small to work with.
    #[error("a memory limit of {limit} bytes is too small; give at least {least} bytes")]
    LimitTooSmall {
        /// The limit asked for, in bytes.
        limit: u64,
        /// The least limit that works, in bytes.
        least: u64,
    },
    /// The memory limit is larger than what can be addressed.
    #[error("a memory limit of {limit} bytes is too large; give at most {most} bytes")]
    LimitTooLarge {
        /// The limit asked for, in bytes.
        limit: u64,
        /// The largest limit that works, in bytes.
        most: u64,
    },
    /// The system gave no page memory.
    #[error("page memory could not be had from the system: cannot {action}")]
    PageMemory {
        /// The step that failed.
        action: &'static str,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// Page memory that an earlier store has left is not as it was written.
    #[error("page memory of an earlier store is damaged; start anew")]
    Damaged,
    /// Page memory that an earlier store has left has another layout.
    #[error(
        "page memory of an earlier store has layout version {found}, and this one reads versions up to {known}; start anew"
    )]
    OtherVersion {
        /// The version that it has.
        found: u32,
        /// The newest that can be read.
        known: u32,
    },
    /// Pages that an earlier store has left are in a spill area that was not given.
    #[error(
        "pages of an earlier store are in another spill area; give that one, or start anew without them"
    )]
    OtherSpillArea,
    /// The spill area cannot be used.
    #[error("the spill area cannot be written")]
    Spill {
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// The store serves a client with this identity already.
    #[error("the store serves a client with this identity already")]
    IdentityTaken,
    /// The system has no random numbers, of which an identity is made.
    #[error("no identity could be made: the system has no random numbers")]
    Random {
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// The store has as many clients as it can tell apart.
    #[error("the store already serves {clients} clients, the most it can")]
    TooManyClients {
        /// Clients that the store serves.
        clients: usize,
    },
}
