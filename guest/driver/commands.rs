// SPDX-License-Identifier: GPL-2.0

//! What `/dev/tmem` answers, and who does it.

use super::{
    chardev::Control,
    filter::list::Filters,
    give_back::GiveBack,
    manager::Manager, //
};
use crate::uapi::{
    self,
    GivenBack,
    SharedTarget,
    Target,
    VerifiedTarget, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// See the module.
pub(crate) struct Commands {
    pub(crate) manager: Arc<Manager>,
    pub(crate) filters: Arc<Filters>,
    pub(crate) give_back: Arc<GiveBack>,
}

impl Control for Commands {
    fn attach(&self, target: &Target) -> Result {
        self.filters.attach(target)
    }

    fn attach_shared(&self, target: &SharedTarget) -> Result {
        self.filters.attach_shared(target)
    }

    fn attach_verified(&self, target: &VerifiedTarget) -> Result {
        self.filters.attach_verified(target)
    }

    fn detach(&self, target: &Target) -> Result {
        self.filters.detach(target)
    }

    fn filter(&self, position: u32) -> Option<uapi::Filter> {
        self.filters.show(position)
    }

    fn status(&self) -> uapi::Status {
        self.manager.status()
    }

    fn give_back(&self) -> Result {
        self.give_back.begin()
    }

    fn keep(&self) {
        self.give_back.end();
    }

    fn given_back(&self) -> GivenBack {
        // Asks the device.
        self.manager.status();
        self.give_back.status()
    }
}
