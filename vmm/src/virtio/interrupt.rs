// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a device interrupts the guest.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use virtio_bindings::bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::event;

/// A device's interrupt line and the reasons for its interrupts.
#[derive(Debug)]
pub struct Interrupt {
    /// Wired to KVM (irqfd): each write is one edge.
    line: EventFd,
    /// InterruptStatus (virtio 1.2, section 4.2.2).
    status: AtomicU32,
    generation: AtomicU32,
    needs_reset: AtomicBool,
    /// Somebody else writes to the line when buffers were used.
    shared: AtomicBool,
}

impl Interrupt {
    /// A quiet line.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            line: EventFd::new(EFD_NONBLOCK)?,
            status: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
            shared: AtomicBool::new(false),
        })
    }

    /// The line itself, for KVM, and for another process that uses buffers; see
    /// [`Interrupt::share`].
    pub fn line(&self) -> &EventFd {
        &self.line
    }

    /// From now on another process may write to the line when it has used
    /// buffers. It cannot set the reason, so "used buffers" is always one; a
    /// driver that finds none has looked for nothing.
    pub fn share(&self) {
        self.shared.store(true, SeqCst);
    }

    /// Tells the driver that buffers were used.
    pub fn used(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// Tells the driver that the configuration space has changed.
    pub fn config_changed(&self) {
        self.generation.fetch_add(1, SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    /// Sets DEVICE_NEEDS_RESET and tells the driver (virtio 1.2, section
    /// 2.1.2).
    pub fn needs_reset(&self) {
        self.needs_reset.store(true, SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    fn raise(&self, reason: u32) {
        self.status.fetch_or(reason, SeqCst);
        event::set(&self.line);
    }

    /// InterruptStatus.
    pub(super) fn status(&self) -> u32 {
        let shared = if self.shared.load(SeqCst) {
            VIRTIO_MMIO_INT_VRING
        } else {
            0
        };
        self.status.load(SeqCst) | shared
    }

    /// InterruptACK.
    pub(super) fn acknowledge(&self, reasons: u32) {
        self.status.fetch_and(!reasons, SeqCst);
    }

    /// ConfigGeneration.
    pub(super) fn generation(&self) -> u32 {
        self.generation.load(SeqCst)
    }

    /// Whether DEVICE_NEEDS_RESET is set.
    pub(super) fn is_reset_needed(&self) -> bool {
        self.needs_reset.load(SeqCst)
    }

    /// As after power-on; the generation goes on, so that a driver that reads
    /// across a reset sees it.
    pub(super) fn reset(&self) {
        self.status.store(0, SeqCst);
        self.needs_reset.store(false, SeqCst);
        self.shared.store(false, SeqCst);
    }
}
