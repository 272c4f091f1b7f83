// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tests of rules, limits and histories once more, while a
//! thread compresses their pages.

#![allow(clippy::duplicate_mod, reason = "each is also a crate of its own")]

#[path = "coherency.rs"]
mod coherency;
#[path = "limits.rs"]
mod limits;
#[path = "model.rs"]
mod model;
#[path = "overwrites.rs"]
mod overwrites;
#[path = "shares.rs"]
mod shares;
#[path = "stress.rs"]
mod stress;
