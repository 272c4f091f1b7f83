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
        quota: "64M",
        swap_size: "1G",
        ..DaemonOptions::default()
    })?;
    let guest = bed::guest("quota", 192, &daemon, "vm0")?;
    guest.swap_on()?;

    // This one fits, in part with the daemon.
    let mut modest = guest.workload(160, 1)?;
    modest.filled()?;

    // This one does not, whatever the ratio of compression. The larger of the
    // two is what the kernel kills in the end.
    let mut greedy = guest.workload(512, 2)?;
    match greedy.outcome()? {
        Err(ended) => assert_eq!(ended.signal, Some(9), "{ended:?}"),
        Ok(account) => bail!("192 MiB and a quota of 64 MiB held 672 MiB: {account:?}"),
    }

    assert!(guest.counter("failed_stores")? > 0);
    let stats = daemon.stats()?;
    assert!(stats.number("/vms/vm0/puts_refused_quota")? > 0);
    assert!(stats.number("/vms/vm0/held_bytes")? <= 64 << 20);
    guest.says("quota", Duration::from_secs(10))?;

    // Every page of the survivor is right, those that were refused included,
    // and there is room again.
    modest.order(Order::Verify)?;
    modest.order(Order::Churn)?;
    modest.order(Order::Verify)?;
    modest.end()?;
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}
