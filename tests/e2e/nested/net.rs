// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The network card on a tap.

use crate::nested;
use anyhow::Context;
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use tmem_e2e::Host;
use tmem_e2e::VmOptions;
use tmem_e2e::until;

/// For a server to listen.
const LISTENS: Duration = Duration::from_secs(30);

#[test]
fn a_guest_exchanges_files_with_the_machine_of_the_vmm() -> Result<()> {
    nested::on_host(&nested::machine("net"), files_go_both_ways)
}

fn files_go_both_ways(host: &Arc<Host>) -> Result<()> {
    let Some(outer) = host.outer() else {
        // Taps and addresses of this machine are not for a test to change.
        return Ok(());
    };
    outer.run("modprobe tun")?;
    for line in [
        // The machine reaches its own address through it.
        "busybox ip link set lo up",
        "busybox tunctl -t tap0",
        "busybox ip address add 10.0.0.1/24 dev tap0",
        "busybox ip link set tap0 up",
    ] {
        outer.run(line)?;
    }
    let guest = nested::guest(
        host,
        VmOptions {
            name: "net".into(),
            cpus: 2,
            nets: vec!["tap=tap0,mac=52:54:00:12:34:56".into()],
            ..VmOptions::default()
        },
    )?;
    for line in [
        "modprobe virtio_mmio",
        "modprobe virtio_net",
        "busybox ip address add 10.0.0.2/24 dev eth0",
        "busybox ip link set eth0 up",
        "busybox ping -c 3 10.0.0.1",
    ] {
        guest.run(line)?;
    }
    let mac = guest.read("/sys/class/net/eth0/address")?;
    assert_eq!(mac.trim(), "52:54:00:12:34:56");

    // 14 MB to the guest, and back.
    let server = host.spawn(&["busybox", "httpd", "-f", "-p", "80", "-h", "/boot"])?;
    until("the server to listen", LISTENS, || {
        let (_, said) = outer.try_run("busybox wget -O /dev/null http://10.0.0.1/nothing")?;
        Ok(said.contains("404").then_some(()))
    })?;
    guest.run("busybox wget -q -O /tmp/file http://10.0.0.1/vmlinuz")?;
    guest.run("busybox httpd -p 80 -h /tmp")?;
    outer.run("busybox wget -q -O /tmp/file http://10.0.0.2/file")?;
    let sum = |text: String| text.split(' ').next().map(str::to_string);
    let sent = sum(outer.run("busybox sha256sum /boot/vmlinuz")?).context("no sum")?;
    assert_eq!(
        sum(guest.run("busybox sha256sum /tmp/file")?).as_deref(),
        Some(&*sent)
    );
    let sizes = outer.run("busybox wc -c /boot/vmlinuz /tmp/file")?;
    assert_eq!(
        sum(outer.run("busybox sha256sum /tmp/file")?).as_deref(),
        Some(&*sent),
        "{sizes}"
    );
    guest.power_off()?;
    drop(server);
    Ok(())
}
