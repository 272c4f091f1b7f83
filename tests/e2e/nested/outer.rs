// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The machine that the VMM runs on.

use crate::bed;
use crate::nested;
use anyhow::Result;
use std::sync::Arc;
use tmem_e2e::Ended;
use tmem_e2e::Host;

#[test]
fn an_outer_guest_has_kvm_and_runs_the_daemon() -> Result<()> {
    nested::on_host(&nested::machine("outer"), |host| {
        programs_run(host)?;
        a_daemon_runs_twice(host)
    })
}

fn programs_run(host: &Arc<Host>) -> Result<()> {
    let mut program = host.spawn(&["sleep", "600"])?;
    assert_eq!(program.ended()?, None);
    let ended = program.terminate(bed::PROMPT)?;
    assert_eq!(
        ended,
        Ended {
            code: None,
            signal: Some(15)
        }
    );
    let mut program = host.spawn(&["sh", "-c", "exit 3"])?;
    assert_eq!(program.wait(bed::PROMPT)?.code, Some(3));
    Ok(())
}

fn a_daemon_runs_twice(host: &Arc<Host>) -> Result<()> {
    let place = nested::daemon(host)?;
    let daemon = place.start()?;
    assert_eq!(daemon.stats()?.number("/vms/vm0/puts")?, 0);
    let pid = daemon.pid();
    daemon.stop()?;
    let daemon = place.start()?;
    assert_ne!(daemon.pid(), pid);
    daemon.stop()
}
