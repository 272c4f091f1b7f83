// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a driver is shown of a device, and what is particular to each kind of device that
//! a daemon serves.

use std::fmt::Debug;

use virtio_bindings::bindings::virtio_config::VIRTIO_F_IN_ORDER;

use crate::virtio::COMMON_FEATURES;

/// Features that every daemon has to offer: those of the rings, and that requests are
/// answered in order, so that the used index says where to go on.
pub(super) const NEEDED: u64 = COMMON_FEATURES | 1 << VIRTIO_F_IN_ORDER;

/// Descriptors in a queue.
pub(super) const QUEUE_SIZE: u16 = 256;

/// What a driver is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Features.
    pub(super) features: u64,
    /// The configuration space.
    pub(super) space: Vec<u8>,
    /// Queues that are served.
    pub(super) queues: u16,
}

/// What a daemon says of its device.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Features, those of vhost-user included.
    pub(super) features: u64,
    /// As many bytes of the configuration space as were asked for.
    pub(super) space: Vec<u8>,
    /// Queues.
    pub(super) queues: u64,
}

/// A driver at work, as far as another daemon has to fit it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knows<'a> {
    /// What it was shown.
    pub(super) offer: &'a Offer,
    /// Features that were negotiated.
    pub(super) features: u64,
    /// Queues from the first to the last that it uses.
    pub(super) queues: u16,
}

/// Whether a daemon can serve a driver that knows the device already.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It can.
    Good,
    /// It can, once the driver has been told that this is at the beginning of the
    /// configuration space.
    Changed(Vec<u8>),
    /// Not before the driver has reset the device; a part of a sentence about why, if
    /// somebody should hear of it.
    Reset(Option<&'static str>),
    /// It cannot; a part of a sentence about why. Another one may.
    Bad(String),
}

/// A kind of device.
pub(super) trait Device: Debug + Send + Sync {
    /// The virtio device id.
    fn id(&self) -> u32;

    /// Queues of a device with so many request queues.
    fn queues(&self, request_queues: u16) -> u16;

    /// Bytes of the configuration space.
    fn space_size(&self) -> usize;

    /// What a driver is shown before the first daemon has come.
    fn placeholder(&self, request_queues: u16) -> Offer;

    /// What a driver is shown of a daemon's device, with `request_queues` at most.
    ///
    /// # Errors
    /// A part of a sentence about why no driver could use it.
    fn offer(&self, told: &Told, request_queues: u16) -> Result<Offer, String>;

    /// Whether a daemon that offers `daemon` can serve the driver.
    fn fit(&self, driver: Knows<'_>, daemon: &Offer) -> Fit;

    /// Whether a driver that was shown `offer` may write `data` to the configuration space at
    /// `offset`. Most devices have nothing to be written there.
    fn may_write(&self, _offer: &Offer, _offset: usize, _data: &[u8]) -> bool {
        false
    }

    /// What a daemon has to be told of a driver that may have written to the configuration
    /// space: bytes and where they are.
    fn written(&self, _driver: Knows<'_>) -> Option<(u32, Vec<u8>)> {
        None
    }
}
