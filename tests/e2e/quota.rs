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

#[test]
fn a_write_of_which_the_first_part_is_refused_fails() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        quota: "4M",
        swap_size: "256M",
        ..DaemonOptions::default()
    })?;
    let guest = bed::guest("split-error", 160, &daemon, "vm0")?;
    guest.load_module()?;
    guest.disk_appears()?;
    // Up to the quota; then there is room again for what is small, and only for that.
    guest.sh(
        "busybox dd if=/dev/urandom of=/dev/tmem0 bs=128k count=64 oflag=direct 2>/dev/null || true; \
         busybox dd if=/dev/zero of=/dev/tmem0 bs=128k count=2 oflag=direct 2>/dev/null",
    )?;
    // 1 MiB is two requests: pages that do not compress, and zeros.
    guest.sh("busybox head -c 512k /dev/urandom >/want; busybox head -c 512k /dev/zero >>/want")?;
    for at in 60..64 {
        guest.sh(&format!(
            "if busybox dd if=/want of=/dev/tmem0 bs=1M count=1 seek={at} oflag=direct; then \
                 busybox dd if=/dev/tmem0 of=/got bs=1M count=1 skip={at} iflag=direct; \
                 busybox cmp /want /got; \
             fi"
        ))?;
    }
    assert!(daemon.stats()?.number("/vms/vm0/puts_refused_quota")? > 0);
    assert!(guest.counter("failed_stores")? > 0);
    guest.power_off()?;
    daemon.stop()
}
