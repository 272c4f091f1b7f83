// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device that settings ask for: the one place that knows all of them.

use std::sync::Arc;

use tmem_store::Client;
use virtio_tmem::device::{Device, DeviceConfig, PoolLog};

use super::VmDevice;
use crate::registry::Settings;

/// Makes the device of the machine `name` in front of `client`, which may have pages already.
/// `log`, if there is one, is to be told of pools before the driver is.
pub fn make(
    name: &str,
    settings: &Settings,
    client: Client,
    instance: [u8; 16],
    request_queues: u32,
    log: Option<PoolLog>,
) -> Arc<dyn VmDevice> {
    let config = DeviceConfig::new(name, instance)
        .with_swap_pages(settings.swap_pages())
        .with_max_pools(settings.max_pools)
        .with_request_queues(request_queues);
    let device = Device::new(client, config)
        .with_give_back(settings.give_back)
        .with_report(Box::new(|line| log::warn!("{line}")));
    Arc::new(match log {
        Some(log) => device.with_pool_log(log),
        None => device,
    })
}
