// SPDX-License-Identifier: GPL-2.0

//! Hibernation is refused while the host has swapped out pages: they would not be in the image, and
//! the host does not keep them for as long as the machine is off. An image on `/dev/tmem0` would be
//! lost as well; a swap area there always has a page on the host, its header.

use super::{
    area::PageState,
    engine::Engine,
    tuning, //
};
use crate::sys::hibernation::Guard;
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    },
};

impl Engine {
    /// Swapped out pages on the host.
    fn swapped_out(&self) -> u64 {
        let areas = (0..).map_while(|at| self.area(at));
        areas
            .filter(|area| matches!(*area.known.lock(), PageState::Swap(_)))
            .map(|area| area.pages())
            .sum()
    }

    /// Waits, for a bounded time, until no request is under way.
    fn drain(&self) {
        let mut waited = 0;
        while self.progress().1 > 0 && waited < tuning::DRAIN_MS {
            fsleep(Delta::from_millis(tuning::WRITE_POLL_MS));
            waited += tuning::WRITE_POLL_MS;
        }
    }
}

impl Guard for Engine {
    fn refuses(&self) -> bool {
        // Making room for the image swaps pages out: from here on not to the host.
        self.fullness.close(true);
        self.drain();
        let pages = self.swapped_out();
        if pages > 0 {
            self.fullness.close(false);
            pr_err!(
                "hibernation is refused: {} swapped out pages are on the host, and would not be in the image; first swapoff /dev/tmem0, and tmemctl detach swap partitions\n",
                pages,
            );
        }
        pages > 0
    }

    fn over(&self) {
        self.fullness.close(false);
    }
}
