// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon beside the VMM.

use crate::bed::MIB;
use crate::nested;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use tmem_e2e::Guest;
use tmem_e2e::Host;
use tmem_e2e::VmOptions;
use tmem_e2e::Vmm;
use tmem_e2e::protocol::Order;

/// How the kernel ends a program whose page cannot be brought back (SIGBUS), or
/// for which there is no memory while nothing can be swapped out (SIGKILL).
const ENDINGS: [Option<i32>; 2] = [Some(7), Some(9)];

#[test]
fn guests_swap_into_the_daemon() -> Result<()> {
    nested::on_host(&nested::machine("daemon"), |host| {
        the_daemon_comes_after_the_module(host)?;
        the_daemon_is_restarted_under_load(host)
    })
}

fn the_daemon_comes_after_the_module(host: &Arc<Host>) -> Result<()> {
    let place = nested::daemon(host)?;
    let guest = launch(host, "early", 2, &place.socket("vm0"))?;
    guest.load_module()?;
    let daemon = place.start()?;
    guest.disk_appears()?;
    guest.swap_on()?;
    let mut job = nested::large_job(&guest, 1)?;
    job.order(Order::Churn)?;
    let pages = daemon.stats()?.number("/vms/vm0/persistent_pages")?;
    assert!(pages >= nested::OVER * MIB, "{pages} pages are there");
    nested::ends_right(&guest, job)?;
    guest.power_off()?;
    daemon.stop()
}

fn the_daemon_is_restarted_under_load(host: &Arc<Host>) -> Result<()> {
    let place = nested::daemon(host)?;
    let daemon = place.start()?;
    let guest = launch(host, "restart", 1, &daemon.socket("vm0"))?;
    guest.swap_on()?;
    let mut job = nested::large_job(&guest, 1)?;
    job.tell(Order::Churn)?;
    job.moves()?;
    daemon.stop()?;
    let daemon = place.start()?;
    // Its pages went with the daemon; it must not get any others.
    match job.outcome()? {
        Err(ended) => assert!(ENDINGS.contains(&ended.signal), "{ended:?}"),
        Ok(account) => assert_eq!(account.wrong, 0, "{:?}", account.examples),
    }
    drop(job);

    // Swapped on anew, it is as good as ever.
    guest.swap_on_anew()?;
    let mut job = nested::large_job(&guest, 2)?;
    job.order(Order::Churn)?;
    job.order(Order::Verify)?;
    job.end()?;
    assert_eq!(guest.counter("rejected")?, 0);
    guest.power_off()?;
    daemon.stop()
}

fn launch(host: &Arc<Host>, name: &str, cpus: u32, socket: &Path) -> Result<Guest<Vmm>> {
    nested::guest(
        host,
        VmOptions {
            name: name.into(),
            cpus,
            tmem: Some(format!("socket={}", socket.display())),
            ..VmOptions::default()
        },
    )
}
