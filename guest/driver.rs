// SPDX-License-Identifier: GPL-2.0

//! The driver's logic. No `unsafe` and no C bindings here: those are in `sys`.

pub(crate) mod area;
pub(crate) mod bits;
pub(crate) mod blocks;
pub(crate) mod chardev;
pub(crate) mod commands;
pub(crate) mod control;
pub(crate) mod counters;
pub(crate) mod engine;
pub(crate) mod events;
pub(crate) mod filter;
pub(crate) mod fingerprint;
pub(crate) mod finish;
pub(crate) mod flush;
pub(crate) mod flusher;
pub(crate) mod frames;
pub(crate) mod fullness;
pub(crate) mod give_back;
pub(crate) mod handles;
pub(crate) mod hibernation;
pub(crate) mod lanes;
pub(crate) mod manager;
pub(crate) mod parts;
pub(crate) mod puts;
pub(crate) mod queue;
pub(crate) mod ratelimit;
pub(crate) mod request;
pub(crate) mod reserve;
pub(crate) mod round_trip;
pub(crate) mod runs;
pub(crate) mod sparse;
pub(crate) mod stage;
pub(crate) mod staged;
pub(crate) mod ticket;
pub(crate) mod tuning;
