// SPDX-License-Identifier: GPL-2.0

//! Tickets: see `blocks`.

/// Permission to put what a read brings, as long as no write came after it: the number of the last
/// write before that read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ticket(pub(super) u64);
