// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pages of a virtual machine in one stream, to be kept beside a snapshot of its memory and to be
//! given to it when it is restored, on this host or another. `docs/image.md` has the layout.
//!
//! [`file`] is the stream, and [`machine`] has a machine written and read. It goes over a control socket
//! ([`transfer`]) or through what a front end hands over ([`Channel`]); [`workers`] has threads for that.

mod channel;
mod file;
pub mod machine;
mod transfer;
mod workers;

pub use channel::Channel;
pub use file::{Image, Totals, write};
pub use machine::How;
pub(crate) use transfer::{clone, remove, restore, save};
pub use workers::{Begin, Workers};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tmem_store::{Client, PoolConfig, PoolKind};
use uuid::Uuid;

use crate::personality::VmDevice;
use crate::registry::{Refusal, Still};

/// What an image says beside the pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// What the device was: `tmem`.
    pub personality: String,
    /// The name of the set of pools, which its driver knows (the `instance` of the configuration
    /// space).
    pub instance: Uuid,
    /// The pools, with pages or without.
    pub pools: Vec<Pool>,
    /// By what the driver is known when it comes back, as the door of the program that has saved it
    /// has it.
    pub driver: Value,
}

/// A pool of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The driver's number of it.
    pub id: u32,
    /// Whether its pages may go.
    pub ephemeral: bool,
}

impl About {
    /// Of a device, and of its driver that stands still.
    pub(crate) fn of(personality: &str, device: &dyn VmDevice, still: Still) -> Self {
        Self {
            personality: personality.to_owned(),
            instance: Uuid::from_bytes(device.instance()),
            pools: Self::pools_of(device.client()),
            driver: still.driver,
        }
    }

    /// The pools that a client has.
    fn pools_of(client: &Client) -> Vec<Pool> {
        let pools = client.pools().into_iter();
        pools
            .map(|(id, kind)| Pool {
                id,
                ephemeral: kind == PoolKind::Ephemeral,
            })
            .collect()
    }

    /// Makes the pools, without pages.
    ///
    /// # Errors
    /// When the client may not have them.
    pub(crate) fn make_pools(&self, client: &Client) -> Result<(), Refusal> {
        for Pool { id, ephemeral } in &self.pools {
            let kind = match ephemeral {
                true => PoolKind::Ephemeral,
                false => PoolKind::Persistent,
            };
            client.create_pool(*id, PoolConfig::new(kind)).map_err(|error| {
                Refusal::Conflict(format!(
                    "pool {id} of the image cannot be made here: {error}; compare max_pools and the quota with those of the machine that was saved"
                ))
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
