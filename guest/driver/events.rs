// SPDX-License-Identifier: GPL-2.0

//! The event queue: buffers that the device fills when there is an event.

use super::tuning;
use crate::sys::{
    chain::Chain,
    irq_lock::{
        new_irq_lock,
        IrqLock, //
    },
    virtqueue::{
        Carrier,
        Quiesced,
        Virtqueue, //
    },
};
use crate::wire::{
    Event,
    EventKind, //
};
use kernel::prelude::*;

/// A buffer for one event.
pub(crate) struct Buffer(Chain);

impl Carrier for Buffer {
    fn chain_mut(&mut self) -> &mut Chain {
        &mut self.0
    }
}

/// Events that the device has told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Raised {
    /// The limits changed.
    pub(crate) limits: bool,
    /// The operator wants the driver to stop using the device.
    pub(crate) detach: bool,
}

/// See the module.
#[pin_data]
pub(crate) struct Events {
    #[pin]
    vq: IrqLock<Option<Virtqueue<Buffer>>>,
}

impl Events {
    /// Without a device.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            vq <- new_irq_lock!(None, "tmem::Events"),
        })
    }

    /// Gives the device, which is ready, its buffers.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn attach(&self, mut vq: Virtqueue<Buffer>) -> Result {
        for _ in 0..tuning::EVENTS {
            let mut chain = Chain::new(0, 0, Event::SIZE)?;
            chain.expect_answer(Event::SIZE, 0);
            if vq.add(KBox::new(Buffer(chain), GFP_KERNEL)?).is_err() {
                break;
            }
        }
        let doorbell = (*self.vq.lock()).insert(vq).publish();
        if let Some(doorbell) = doorbell {
            doorbell.ring();
        }
        Ok(())
    }

    /// Reads what the device has written, and gives the buffers back to it.
    pub(crate) fn used(&self) -> Raised {
        let mut raised = Raised::default();
        let doorbell = {
            let mut slot = self.vq.lock();
            let Some(vq) = (*slot).as_mut() else {
                return raised;
            };
            // A device that fills buffers without end is not followed: one round for each call.
            for _ in 0..tuning::EVENTS {
                let Some((mut buffer, _)) = vq.take_used() else {
                    break;
                };
                raised.read(buffer.0.answer());
                buffer.0.expect_answer(Event::SIZE, 0);
                // There was room for it before.
                let _ = vq.add(buffer);
            }
            vq.publish()
        };
        if let Some(doorbell) = doorbell {
            doorbell.ring();
        }
        raised
    }

    /// The device is gone.
    pub(crate) fn detach(&self, quiesced: &Quiesced) {
        let vq = self.vq.lock().take();
        if let Some(mut vq) = vq {
            while vq.take_unused(quiesced).is_some() {}
        }
    }
}

impl Raised {
    fn read(&mut self, bytes: &[u8]) {
        let Ok(bytes) = bytes.try_into() else {
            return;
        };
        match Event::decode(bytes).kind {
            kind if kind == EventKind::Limits as u32 => self.limits = true,
            kind if kind == EventKind::Detach as u32 => self.detach = true,
            _ => (),
        }
    }
}
