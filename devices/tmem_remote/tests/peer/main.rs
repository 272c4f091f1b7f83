// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a node may do: it costs time and pages, never more of either than was set, and never gives a
//! guest a page that is another one.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod node;
mod pages;
mod process;
mod running;
mod starting;
