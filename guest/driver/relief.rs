// SPDX-License-Identifier: GPL-2.0

//! What happens when the kernel would kill a process for lack of memory while the device is gone: see
//! [`super::reserve`].

use super::{
    engine::Engine,
    tuning, //
};
use crate::sys::{
    oom::Relief,
    reclaim, //
};
use kernel::{
    prelude::*,
    sync::atomic::Relaxed,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

impl Relief for Engine {
    fn relieve(&self) -> u64 {
        // Without pages on the device, this is not for its being gone.
        if !self.is_away() || self.stored_pages() == 0 || self.reserve.is_empty() {
            return 0;
        }
        if !self.is_short.xchg(true, Relaxed) {
            pr_warn!(
                "no memory is left, and nothing can be swapped out while the device is gone: plug it in again\n"
            );
        }
        if reclaim::may_wait() {
            fsleep(Delta::from_millis(tuning::RELIEF_WAIT_MS));
            // The device may be back, or somebody may have freed memory.
            return 1;
        }
        let mut freed = 0;
        while freed < tuning::RELIEF_PAGES && self.reserve.free_one() {
            freed += 1;
        }
        self.shared.counters.relief_pages.add(freed);
        freed
    }
}
