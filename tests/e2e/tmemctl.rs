// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! tmemctl in a guest: what it says of the module, and the module of itself.

use crate::bed;
use anyhow::Result;
use serde_json::Value;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::Machine;

/// It must fail with code 1 and say `words`.
fn refuses<M: Machine>(guest: &Guest<M>, line: &str, words: &str) -> Result<()> {
    let (code, output) = guest.try_run(line)?;
    assert_eq!(code, 1, "{line}: {output}");
    assert!(output.contains(words), "{line}: {output}");
    Ok(())
}

#[test]
fn tmemctl_says_what_is_there_and_what_is_missing() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("tmemctl", 160, &daemon, "vm0")?;

    for line in ["tmemctl status", "tmemctl attach --all"] {
        refuses(&guest, line, "modprobe virtio_tmem")?;
    }
    // Then nothing is attached.
    guest.run("tmemctl detach --all")?;
    refuses(&guest, "tmemctl attach /dev/null", "is not a block device")?;

    guest.load_module()?;
    guest.disk_appears()?;
    let status = guest.run("tmemctl status")?;
    assert!(status.starts_with("host "), "{status}");
    assert!(status.contains("Nothing is attached"), "{status}");
    let status = bed::json(&guest, "tmemctl status --json")?;
    assert_eq!(status["version"], 1);
    assert_eq!(status["filters"], Value::Array(Vec::new()));
    refuses(&guest, "tmemctl attach /dev/null", "is not a block device")?;
    refuses(&guest, "tmemctl attach /dev/tmem0", "the module's own disk")?;
    refuses(&guest, "tmemctl detach 254:1", "is not attached")?;
    // Nothing is mounted that has a disk.
    guest.run("tmemctl attach --all")?;

    guest.power_off()?;
    daemon.stop()
}

#[test]
fn an_open_control_device_holds_the_module() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("control", 160, &daemon, "vm0")?;
    guest.load_module()?;
    guest.disk_appears()?;
    let mode = guest.run("ls -l /dev/tmem")?;
    assert!(mode.starts_with("crw-------"), "{mode}");

    guest.sh("exec 3<>/dev/tmem; ! rmmod virtio_tmem; tmemctl status")?;
    guest.run("rmmod virtio_tmem")?;
    refuses(&guest, "tmemctl status", "modprobe virtio_tmem")?;
    guest.load_module()?;
    guest.run("tmemctl status")?;

    guest.power_off()?;
    daemon.stop()
}
