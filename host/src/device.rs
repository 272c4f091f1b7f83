// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device that settings ask for: the one place that knows all of them.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tmem_store::Client;
use virtio_blk_tmem::{Disk, DiskConfig, SwapHeader};
use virtio_tmem::device::{Device, DeviceConfig, PoolLog, Quota, Shares};

use crate::personality::{Blk, VmDevice};
use crate::registry::{self, Settings};

/// Who a machine is.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    /// The machine, always.
    pub identity: [u8; 16],
    /// What its driver has in the store.
    pub instance: [u8; 16],
}

/// What a device has that not every one has.
#[derive(Debug, Default)]
pub struct Has {
    /// Told of its pools before its driver is.
    pub log: Option<PoolLog>,
    /// Pools that other machines have, too. A disk has none.
    pub shares: Option<Arc<dyn Shares>>,
}

/// Makes the device of the machine `name` in front of `client`, which may have pages already.
/// `has` says what else it has.
///
/// # Errors
/// When the store has no room, or the log fails.
pub fn make(
    name: &str,
    settings: &Settings,
    client: Client,
    ids: Ids,
    request_queues: u32,
    has: Has,
) -> Result<Arc<dyn VmDevice>> {
    let device: Arc<dyn VmDevice> = match &settings.disk {
        Some(disk) => Arc::new(blk(name, disk, client, ids, request_queues, has.log)?),
        None => Arc::new(tmem(name, settings, client, ids, request_queues, has)),
    };
    // The client has any other, and its driver need not be told.
    if let Quota::Credit { .. } = settings.quota {
        device.set_quota(settings.quota);
    }
    Ok(device)
}

fn tmem(
    name: &str,
    settings: &Settings,
    client: Client,
    ids: Ids,
    request_queues: u32,
    has: Has,
) -> Device {
    let config = DeviceConfig::new(name, ids.instance)
        .with_swap_pages(settings.swap_pages())
        .with_max_pools(settings.max_pools)
        .with_request_queues(request_queues);
    let device = Device::new(client, config)
        .with_give_back(settings.give_back)
        .with_report(Box::new(|line| log::warn!("{line}")));
    let device = match has.log {
        Some(log) => device.with_pool_log(log),
        None => device,
    };
    match has.shares {
        Some(shares) => device.with_shares(shares),
        None => device,
    }
}

fn blk(
    name: &str,
    disk: &registry::Disk,
    client: Client,
    ids: Ids,
    request_queues: u32,
    log: Option<PoolLog>,
) -> Result<Blk> {
    let queues = u16::try_from(request_queues).unwrap_or(u16::MAX);
    let mut config = DiskConfig::new(name, disk.size).with_queues(queues);
    if disk.swapspace {
        config = config.with_swapspace(SwapHeader {
            label: disk.label.clone(),
            uuid: ids.identity,
        });
    }
    let disk = Disk::new(client, config).context("cannot make its disk")?;
    let disk = disk.with_report(Box::new(|line| log::warn!("{line}")));
    if let Some(PoolLog(log)) = log {
        ensure!(log(disk.client()), "cannot note the pool of its disk");
    }
    Ok(Blk::new(disk, ids.instance))
}
