// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The machine that the VMM runs on.

use crate::bed;
use crate::nested;
use anyhow::Context;
use anyhow::Result;
use tmem_e2e::Ended;
use tmem_e2e::Host;
use tmem_e2e::HostOptions;

#[test]
fn an_outer_guest_has_kvm_and_runs_the_daemon() -> Result<()> {
    let host = Host::with_kvm(&bed::assets()?, HostOptions::default())?;

    let mut program = host.spawn("sleep 600")?;
    assert_eq!(program.ended()?, None);
    let ended = program.terminate(bed::PROMPT)?;
    assert_eq!(
        ended,
        Ended {
            code: None,
            signal: Some(15)
        }
    );
    let mut program = host.spawn("sh /no/such/script")?;
    assert!(program.wait(bed::PROMPT)?.code.context("no code")? > 0);

    let daemon = nested::daemon(&host)?;
    assert_eq!(daemon.stats()?.number("/vms/vm0/puts")?, 0);
    let pid = daemon.pid();
    let daemon = daemon.restart(|| Ok(()))?;
    assert_ne!(daemon.pid(), pid);
    daemon.stop()?;

    host.power_off()
}
