// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Quotas: a number of bytes, or what the VM has given back.
//!
//! On credit, a VM's memory and its pages together take no more of the host than
//! the memory that it was configured with, plus a base: a VM that gives memory back
//! may have as many bytes of pages for it, and one that takes memory again may put
//! no new pages until it is below. This is the historic rule. What was given back is
//! asked of the files behind the memory, not counted: the VM takes a page again by
//! touching it, and nobody is told.

use std::sync::{Mutex, PoisonError};

use super::frames::{Backing, Frames};

/// How many bytes a VM's pages may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// So many.
    Fixed(u64),
    /// As many as it has given back, and some more.
    Credit {
        /// Bytes that it may have before it has given anything back.
        base: u64,
    },
}

impl Quota {
    /// Bytes, for a VM whose memory is backed so; one that is not known has given
    /// nothing back.
    pub fn bytes(self, backing: Option<Backing>) -> u64 {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Credit { base } => {
                let given = backing.unwrap_or_default().given();
                base.saturating_add(given)
            }
        }
    }
}

/// The quota, and how the VM's memory was backed when that was last looked at.
#[derive(Debug)]
pub struct Account(Mutex<(Quota, Option<Backing>)>);

impl Account {
    /// Of a VM whose memory was not looked at yet.
    pub fn new(quota: Quota) -> Self {
        Self(Mutex::new((quota, None)))
    }

    /// Changes the quota; gives it in bytes.
    pub fn set(&self, quota: Quota) -> u64 {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 = quota;
        quota.bytes(inner.1)
    }

    /// Looks how memory is backed; gives the quota in bytes if it follows from that.
    pub fn look(&self, frames: &impl Frames) -> Option<u64> {
        let backing = frames.backing();
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // When it cannot be known for once, it is as it was.
        inner.1 = backing.or(inner.1);
        match inner.0 {
            Quota::Fixed(_) => None,
            quota @ Quota::Credit { .. } => Some(quota.bytes(inner.1)),
        }
    }

    /// The quota, and how memory was backed.
    pub fn get(&self) -> (Quota, Option<Backing>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_what_was_given_back_and_a_base() {
        let backing = |bytes, backed| Some(Backing { bytes, backed });
        let credit = Quota::Credit { base: 10 };
        for (quota, backing, bytes) in [
            (Quota::Fixed(7), backing(100, 40), 7),
            (credit, backing(100, 40), 70),
            (credit, backing(100, 100), 10),
            (credit, backing(100, 200), 10),
            (credit, None, 10),
            (Quota::Credit { base: u64::MAX }, backing(100, 0), u64::MAX),
        ] {
            assert_eq!(quota.bytes(backing), bytes, "{quota:?}");
        }
    }
}
