// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A daemon that is killed, and the next one.

pub(crate) mod added;
mod connection;
pub(crate) mod crash_points;
mod faults;
pub(crate) mod host;
mod keepers;
mod kills;
mod lane;
mod manager;
pub(crate) mod pages;
