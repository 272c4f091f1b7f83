// SPDX-License-Identifier: GPL-2.0

//! virtio-tmem: swapping into a store on the host.
//!
//! The module drives virtio-tmem devices and provides `/dev/tmem0`, a swap disk whose pages live in
//! the host's store. To other disks it attaches filters, while they are in use: see `driver::filter`. Layers, each knowing only what is below it:
//!
//! - `driver`: what is done. States, requests, what becomes of bios. No `unsafe`.
//! - `sys`: with what. Safe abstractions over the kernel's C interfaces.
//! - `wire`: what device and driver say to each other; the device compiles the same file.
//!
//! The disk takes bios, not blk-mq requests. Filters feed the same engine with their bios; tags would block reclaim, also that of the worker that brings a device back;
//! and neither a tag set nor a scheduler has anything to add to a queue of copies.

mod driver;
mod sys;
#[expect(dead_code, unreachable_pub, reason = "tmemctl uses the rest")]
mod uapi;
#[expect(dead_code, unreachable_pub, reason = "the device uses the rest")]
mod wire;

use crate::{
    driver::{
        chardev,
        commands::Commands,
        counters::{
            self,
            Counters, //
        },
        engine::Engine,
        filter::list::Filters,
        give_back::GiveBack,
        manager::Manager, //
    },
    sys::{
        hibernation,
        misc,
        oom,
        virtio::Registration, //
    },
};
use kernel::{
    debugfs::Scope,
    prelude::*,
    sync::Arc, //
};

module! {
    type: Tmem,
    name: "virtio_tmem",
    authors: ["virtio-tmem developers"],
    description: "virtio-tmem: swap into a transcendent memory store on the host",
    license: "GPL",
    alias: ["virtio:d0000003Cv*"],
    params: {
        reattach_timeout: u32 {
            default: 60,
            description: "Seconds that I/O waits for a device that is gone, or that does not answer, before it fails (default 60)",
        },
        precache_eager: u32 {
            default: 0,
            description: "1 to put blocks that were read once, too; 0 to put them when they are read again (default)",
        },
        poll_micros: u32 {
            default: 50,
            description: "Microseconds that a task looks for the answer to its read before it sleeps, at most; 0 to sleep at once (default 50)",
        },
        stage_pages: u32 {
            default: 0,
            description: "Pages that are copied when they are swapped out, at most, so that reclaim does not wait for the device; 0 for none (default)",
        },
        victim_workingset: u32 {
            default: 0,
            description: "1 to put only those evicted pages that the kernel counts among its working set; 0 for all (default)",
        },
        settle_seconds: u32 {
            default: 30,
            description: "Seconds after which writes have ended that were under way when a filter came, on disks that take bios, such as device mapper's (default 30)",
        },
        test_device_id: u32 {
            default: 0,
            description: "Another virtio device id to bind to, for front ends that cannot offer 60; 0 for none (default)",
        },
    },
}

/// The loaded module. The fields are dropped in order.
struct Tmem {
    /// None until the rest is there.
    control: Option<Pin<KBox<misc::Registration<Commands>>>>,
    /// None once the module is being unloaded.
    registration: Option<Pin<KBox<Registration<Manager>>>>,
    _hibernation: hibernation::Registration<Engine>,
    _oom: oom::Registration<Engine>,
    give_back: Arc<GiveBack>,
    filters: Arc<Filters>,
    manager: Arc<Manager>,
    _counters: Pin<KBox<Scope<Arc<Counters>>>>,
}

impl kernel::Module for Tmem {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let counters = counters::new()?;
        let shown = KBox::pin_init(Counters::show(counters.clone()), GFP_KERNEL)?;
        // Up to 7.2 a parameter's value is a reference, since 7.3 it is a copy: this takes both.
        let timeout = u32::clone(&module_parameters::reattach_timeout.value());
        let test_id = u32::clone(&module_parameters::test_device_id.value());
        let is_eager = u32::clone(&module_parameters::precache_eager.value()) != 0;
        let is_choosy = u32::clone(&module_parameters::victim_workingset.value()) != 0;
        let poll = u32::clone(&module_parameters::poll_micros.value());
        let staged = u32::clone(&module_parameters::stage_pages.value());
        let manager = Manager::new(counters, timeout, poll, staged)?;
        let settle = u32::clone(&module_parameters::settle_seconds.value());
        let filters = Filters::new(manager.clone(), is_eager, is_choosy, settle)?;
        let give_back = GiveBack::new(manager.engine())?;
        let hibernation = hibernation::Registration::new(manager.engine())?;
        let oom = oom::Registration::new(manager.engine())?;
        let ids = [wire::DEVICE_ID, test_id];
        let ids = if test_id == 0 { &ids[..1] } else { &ids[..] };
        let registration = Registration::new(
            module,
            c"virtio_tmem",
            ids,
            manager.clone(),
            manager.workqueue(),
        );
        let registration = KBox::pin_init(registration, GFP_KERNEL).inspect_err(|_| {
            manager.cancel_work();
        })?;
        let mut tmem = Self {
            control: None,
            registration: Some(registration),
            _hibernation: hibernation,
            _oom: oom,
            give_back: give_back.clone(),
            filters: filters.clone(),
            manager: manager.clone(),
            _counters: shown,
        };
        let commands = Commands {
            manager,
            filters,
            give_back,
        };
        let control = chardev::register(Arc::new(commands, GFP_KERNEL)?);
        tmem.control = Some(KBox::pin_init(control, GFP_KERNEL)?);
        Ok(tmem)
    }
}

impl Drop for Tmem {
    fn drop(&mut self) {
        // A report waits for the device.
        self.give_back.end();
        // While the device is still there, so that the host frees the pages at once.
        self.manager.end();
        drop(self.registration.take());
        self.filters.cancel_work();
        self.manager.cancel_work();
    }
}
