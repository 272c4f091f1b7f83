// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest in the registry, for the control API: the one machine there is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tmem_cli::size;
use tmem_host::personality::VmDevice;
use tmem_host::registry::{
    self, Amount, Connection, Defaults, Disk, Name, Registry, Said, Settings,
};
use virtio_tmem::device::Quota;

use super::TmemOptions;
use crate::virtio::Memory;

/// There is no front end whose absence would be waited for.
const GRACE: Duration = Duration::ZERO;

/// Why nothing is added or removed.
const SHUT: &str = "tmem-vmm has one virtual machine, from its start to its end: start another \
                    tmem-vmm, or shut this one down";

/// What the guest may.
///
/// # Errors
/// A sentence about what it cannot have.
pub(super) fn settings(options: &TmemOptions) -> Result<Settings> {
    let disk = Said {
        personality: Some(Disk::PERSONALITY.to_owned()),
        size: Some(Amount::Bytes(options.swap_size)),
        ..Said::default()
    };
    let said = if options.is_disk {
        disk
    } else {
        Said::default()
    };
    let settings = said.over(&defaults(options)).map_err(anyhow::Error::msg)?;
    Ok(Settings {
        codec: options.codec,
        give_back: options.give_back,
        ..settings
    })
}

fn defaults(options: &TmemOptions) -> Defaults {
    Defaults {
        quota: Quota::Fixed(options.quota),
        swap_size: Some(options.swap_size),
        grace: GRACE,
    }
}

/// A registry with the guest of `device`, whose store may hold `limit` bytes.
///
/// # Errors
/// A sentence about what it cannot have.
pub(super) fn registry(
    options: &TmemOptions,
    settings: Settings,
    device: Arc<dyn VmDevice>,
    memory: Memory,
    limit: u64,
) -> Result<Registry> {
    let guest = Guest {
        device,
        memory,
        limit,
    };
    let registry = Registry::new(Box::new(Door(SHUT)), defaults(options), None);
    registry.adopt(options.name.clone(), settings, Arc::new(guest))?;
    Ok(registry)
}

/// A registry without a guest, and why it has none.
pub(super) fn nobody(why: &'static str) -> Registry {
    let defaults = Defaults {
        quota: Quota::Fixed(0),
        swap_size: None,
        grace: GRACE,
    };
    Registry::new(Box::new(Door(why)), defaults, None)
}

/// Nobody comes in here, and why.
#[derive(Debug)]
struct Door(&'static str);

impl registry::Door for Door {
    fn open(&self, _: &Name, _: &Settings) -> Result<Arc<dyn registry::Machine>> {
        bail!(self.0)
    }

    fn socket(&self, _: &Name, _: &Settings) -> Option<PathBuf> {
        None
    }

    fn is_shut(&self) -> Option<&str> {
        Some(self.0)
    }
}

#[derive(Debug)]
struct Guest {
    device: Arc<dyn VmDevice>,
    memory: Memory,
    /// Most bytes that the store holds.
    limit: u64,
}

impl registry::Machine for Guest {
    fn device(&self) -> &dyn VmDevice {
        &*self.device
    }

    /// As long as the machine is there, so is its device.
    fn connection(&self) -> Connection {
        Connection {
            connected: true,
            connections: 1,
            expiries: 0,
        }
    }

    fn set_grace(&self, _: Duration) {}

    fn judge(&self, settings: &Settings) -> Result<(), String> {
        if let Quota::Fixed(quota) | Quota::Credit { base: quota } = settings.quota
            && quota > self.limit
        {
            return Err(format!(
                "the store was started with a memory limit of {}; a quota can be that at most",
                size::show(self.limit)
            ));
        }
        if settings.grace != GRACE {
            return Err("no front end comes and goes here, and so there is no grace period".into());
        }
        Ok(())
    }

    fn look_after(&self) {
        self.device.look_after(Some(&self.memory));
    }

    /// The registry removes nothing.
    fn end(&self) {}
}
