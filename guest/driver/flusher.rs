// SPDX-License-Identifier: GPL-2.0

//! What flushes are sent with.

use super::{
    area::Area,
    request::Request, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// An area with its request for flushes.
pub(super) struct Flusher {
    pub(super) area: Arc<Area>,
    /// Unless it is in flight.
    pub(super) request: Option<KBox<Request>>,
}

impl Flusher {
    /// Of an area.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(area: Arc<Area>) -> Result<Self> {
        Ok(Self {
            area,
            request: Some(Request::for_flush()?),
        })
    }
}
