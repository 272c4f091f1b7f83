// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the daemon says at one time.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use serde::Deserialize;

use super::super::api::{Api, Freeable, Vm};

/// What the daemon says at one time.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) host: Freeable,
    pub(super) vms: Vec<Vm>,
    pub(super) counters: BTreeMap<String, Counters>,
}

/// Pages that a machine has put and got since it is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Counters {
    pub(super) puts: u64,
    pub(super) gets: u64,
    pub(super) get_hits: u64,
}

impl Sample {
    pub(super) fn take(api: &Api) -> Result<Self> {
        let (host, vms) = (api.freeable()?, api.vms()?);
        Ok(Self {
            at: Instant::now(),
            host,
            vms,
            counters: api.counters()?,
        })
    }
}
