// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that wants more than it is granted.

use crate::bed;
use anyhow::Result;
use anyhow::bail;
use std::time::Duration;
use tmem_e2e::DaemonOptions;
use tmem_e2e::protocol::Order;

#[test]
fn at_the_quota_writes_are_refused_and_nothing_is_lost() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        quota: "32M",
        swap_size: "1G",
        ..DaemonOptions::default()
    })?;
    let guest = bed::guest("quota", 160, &daemon, "vm0")?;
    guest.swap_on()?;

    // This one fits into memory, as long as it is alone.
    let mut modest = guest.precious_workload(64, 1)?;
    modest.filled()?;

    // This one does not, whatever the ratio of compression.
    let mut greedy = guest.workload(256, 2)?;
    match greedy.outcome()? {
        Err(ended) => assert_eq!(ended.signal, Some(9), "{ended:?}"),
        Ok(account) => bail!("160 MiB and a quota of 32 MiB held 320 MiB: {account:?}"),
    }

    assert!(guest.counter("failed_stores")? > 0);
    let stats = daemon.stats()?;
    assert!(stats.number("/vms/vm0/puts_refused_quota")? > 0);
    assert!(stats.number("/vms/vm0/held_bytes")? <= 32 << 20);
    guest.says("the device refuses pages", Duration::from_secs(10))?;

    // Every page of the survivor is right, and there is room again.
    modest.order(Order::Verify)?;
    modest.order(Order::Churn)?;
    modest.order(Order::Verify)?;
    modest.end()?;
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}
