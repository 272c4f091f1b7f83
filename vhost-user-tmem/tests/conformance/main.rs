// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Hostile front ends and drivers against the real daemon. The driver's side
//! calls nothing of the project.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cloned;
mod cloned_meanwhile;
mod daemon;
mod disk;
mod front_end;
mod give_back;
mod group;
mod index;
mod log;
mod memory;
mod noisy;
#[path = "../common/huge_pages.rs"]
mod pool;
mod protocol;
mod request;
mod restart;
mod restored;
mod rings;
mod saved;
mod shares;
mod signals;
mod slots;
mod state;
mod verified;
