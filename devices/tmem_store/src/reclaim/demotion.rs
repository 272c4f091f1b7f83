// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is kept while pages are demoted ([`super::demote`]).

use crate::pool::Pages;
use crate::sync::Arc;
use crate::tier::{Location, PackedAt, Packer};
use crate::types::ObjectId;

/// A page that is about to be demoted.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) pool: Arc<Pages>,
    pub(super) object: ObjectId,
    pub(super) index: u64,
    pub(super) old: Location,
    pub(super) new: PackedAt,
}

/// What a client's cleaner keeps for demotions, so that none of it is allocated when memory is short.
#[derive(Debug, Default)]
pub(super) struct Demotion {
    pub(super) draft: Option<Packer>,
    pub(super) pending: Vec<Pending>,
}
