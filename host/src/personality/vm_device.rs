// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device of a virtual machine, as its operator and its door see it.

use std::fmt::Debug;

use tmem_store::Client;
use virtio_serve::{Latency, Lost, Sample};
use virtio_tmem::device::{Backing, Quota};
use vm_memory::GuestMemoryMmap;

use super::Personality;

/// A personality whose pages are in a store. What every one of them has is to be
/// implemented; what some have is absent, or is refused with a sentence, unless it is.
pub trait VmDevice: Personality + Debug {
    /// The store client behind it.
    fn client(&self) -> &Client;

    /// Whether the memory of its machine was lost.
    fn memory_lost(&self) -> &Lost;

    /// The quota as it was set.
    fn quota(&self) -> Quota;

    /// Changes the quota.
    fn set_quota(&self, quota: Quota);

    /// How the memory of its machine was backed when that was last looked at.
    fn backing(&self) -> Option<Backing>;

    /// To be called every second or so, with the memory of its machine while that is known.
    fn look_after(&self, memory: Option<&GuestMemoryMmap>);

    /// Names what its driver has in the store.
    fn instance(&self) -> [u8; 16];

    /// Destroys all its pages and gives it another instance; how many pages that were. Only
    /// while no driver can reach it.
    fn renew(&self, instance: [u8; 16]) -> u64;

    /// Whether its pages are for whichever driver comes, as those of a disk are: one that
    /// begins anew finds what there is.
    fn is_for_any_driver(&self) -> bool {
        false
    }

    /// Its driver goes on with pages that are gone, or not any more. Where it cannot tell, it
    /// is to get errors for them, and nothing else.
    fn set_misses_pages(&self, _misses: bool) {}

    /// What it counts.
    fn samples(&self) -> Vec<Sample>;

    /// How long its requests take.
    fn latencies(&self) -> Vec<Latency>;

    /// What a family of [`VmDevice::samples`] counts, in a sentence.
    fn help(&self, family: &str) -> &'static str;

    /// Has puts of new pages refused, or not any more.
    ///
    /// # Errors
    /// A sentence, if that cannot be.
    fn set_frozen(&self, frozen: bool) -> Result<(), &'static str>;

    /// Asks the driver to bring its pages back.
    ///
    /// # Errors
    /// A sentence, if it cannot be asked.
    fn ask_for_detach(&self) -> Result<(), &'static str>;

    /// Pages of the swap disk that its driver is granted, if that can change.
    fn swap_pages(&self) -> Option<u64> {
        None
    }

    /// Changes the swap disk that its driver is granted.
    fn set_swap_pages(&self, _pages: u64) {}
}
