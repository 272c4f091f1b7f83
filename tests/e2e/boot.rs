// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The test bed itself: without swap, memory runs out.

use anyhow::Result;
use anyhow::bail;
use tmem_e2e::Assets;
use tmem_e2e::Ended;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::protocol::Order;

/// SIGKILL: what the OOM killer sends.
const KILLED: Ended = Ended {
    code: None,
    signal: Some(9),
};

#[test]
fn without_the_module_a_program_larger_than_memory_is_killed() -> Result<()> {
    let guest = Guest::boot(&Assets::from_environment()?, GuestOptions::default())?;

    // It fits, so it must be able to run: the bed does not kill by itself.
    let mut small = guest.workload(16, 1)?;
    small.filled()?;
    assert_eq!(small.order(Order::Churn)?.pages, 4096);
    small.end()?;

    let mut large = guest.workload(400, 2)?;
    match large.outcome()? {
        Err(ended) => assert_eq!(ended, KILLED),
        Ok(account) => bail!("160 MiB held 400 MiB: {account:?}"),
    }
    guest.power_off()
}
