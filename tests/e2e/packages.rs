// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Debian packages on a host with systemd: installed, used, upgraded, purged.

use crate::bed;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::until;

/// For the daemon to be there, on emulated CPUs.
const STARTED: Duration = Duration::from_secs(120);

/// The disk with the packages.
const DISK: &str = "/dev/disk/by-id/virtio-disk0";

/// Where the packages are in the guest.
const PACKAGES: &str = "/root/packages";

/// The small system has no apt that fetches packages.
const INSTALL: &str = "DEBIAN_FRONTEND=noninteractive dpkg --install";

/// All packages in an archive, which the guest has as a disk.
fn archive(packages: &Path, dir: &Path) -> Result<PathBuf> {
    let archive = dir.join("packages.tar");
    let status = Command::new("tar")
        .arg("-C")
        .arg(packages)
        .arg("-cf")
        .arg(&archive)
        .arg(".")
        .status()
        .context("cannot start tar")?;
    ensure!(status.success(), "tar failed");
    Ok(archive)
}

fn is_active(guest: &Guest) -> Result<()> {
    until("the daemon to run", STARTED, || {
        let state = guest.sh("systemctl is-active vhost-user-tmem || true")?;
        Ok((state.trim() == "active").then_some(()))
    })
    .with_context(|| {
        let log = guest.sh("journalctl --no-pager -u vhost-user-tmem | tail -n 20");
        log.unwrap_or_default()
    })
}

/// The only machine, as `tmemctl vm list` has it.
fn machine(guest: &Guest) -> Result<Value> {
    let list = bed::json(guest, "tmemctl vm list --json")?;
    let machines = list.pointer("/vms").and_then(Value::as_array);
    match machines.map(Vec::as_slice) {
        Some([machine]) => Ok(machine.clone()),
        _ => bail!("not one machine: {list}"),
    }
}

/// What systemd thinks of the unit, times ten: as docs/operate.md has it, and a little more for
/// other versions of it.
const EXPOSURE: u32 = 10;

/// The unit takes from the daemon what it has no use for, and so do its threads.
fn is_confined(guest: &Guest) -> Result<()> {
    guest.sh(&format!(
        "systemd-analyze security --no-pager --threshold={EXPOSURE} vhost-user-tmem.service >/tmp/security \
         || {{ cat /tmp/security; exit 1; }}"
    ))?;
    let threads = guest.sh("grep -hE '^(Seccomp|NoNewPrivs|CapEff):' \
         /proc/$(systemctl show -P MainPID vhost-user-tmem)/task/*/status")?;
    for line in threads.lines() {
        let (name, value) = line.split_once(':').context("no line of a status")?;
        let value = value.trim();
        match name {
            // With filters.
            "Seccomp" => assert_eq!(value, "2", "{threads}"),
            "NoNewPrivs" => assert_eq!(value, "1", "{threads}"),
            "CapEff" => assert_eq!(value, "0000000000000000", "{threads}"),
            _ => {}
        }
    }
    Ok(())
}

/// A mistake in a file keeps the daemon from starting, as often as it is tried. What systemd keeps
/// for it stays until the mistake is mended.
fn mistake_loses_nothing(guest: &Guest) -> Result<()> {
    let kept = || {
        let kept = guest.sh("systemctl show -P NFileDescriptorStore vhost-user-tmem")?;
        kept.trim().parse::<u32>().context("no number")
    };
    let before = kept()?;
    ensure!(before > 0, "nothing is kept");
    guest.sh("echo mistake >/etc/virtio-tmem/db1.toml")?;
    // It does not come up.
    guest.sh("systemctl restart --no-block vhost-user-tmem")?;
    // More often than a unit is tried by default.
    until("starts in vain", STARTED, || {
        let starts = guest.sh("systemctl show -P NRestarts vhost-user-tmem")?;
        Ok((starts.trim().parse::<u32>()? > 10).then_some(()))
    })?;
    assert_eq!(kept()?, before);
    guest.sh("rm /etc/virtio-tmem/db1.toml")?;
    is_active(guest)?;
    assert_eq!(machine(guest)?.get("name"), Some(&Value::from("web1")));
    Ok(())
}

/// What docs/metrics.md says about a port, done as it is printed.
fn metrics_are_on_a_port(guest: &Guest) -> Result<()> {
    let text = include_str!("../../docs/metrics.md");
    let unit = text.split("```ini\n").nth(1);
    let unit = unit.and_then(|rest| rest.split("```").next());
    let unit = unit.context("the documentation shows no socket unit")?;
    let path = "/etc/systemd/system/tmem-metrics.socket";
    guest.sh(&format!("cat > {path} <<'END'\n{unit}END"))?;
    let command = text.split('`').find(|it| it.starts_with("systemctl stop "));
    let command = command.context("the documentation does not say how it is started")?;
    guest.sh_within(command, STARTED)?;
    is_active(guest)?;
    let scrape =
        "exec 3<>/dev/tcp/127.0.0.1/9749; printf 'GET /metrics HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3";
    let metrics = guest.sh(&format!("bash -euc \"{scrape}\""))?;
    ensure!(
        metrics.contains("tmem_vm_quota_bytes{vm=\"web1\"}"),
        "{metrics}"
    );
    Ok(())
}

#[test]
fn daemon_is_installed_used_upgraded_and_purged() -> Result<()> {
    let assets = bed::assets()?;
    let packages = assets.packages.clone().context("no packages were made")?;
    let dir = tempfile::tempdir().context("cannot make a directory")?;
    let guest = Guest::boot(
        &assets,
        GuestOptions {
            name: "packages".into(),
            memory_mib: 768,
            debian: true,
            drives: vec![Drive::new(archive(&packages, dir.path())?)],
            ..GuestOptions::default()
        },
    )?;
    until("the disk with the packages", STARTED, || {
        let found = guest.sh(&format!("test -e {DISK} && echo found || true"))?;
        Ok((found.trim() == "found").then_some(()))
    })?;
    guest.sh(&format!("mkdir {PACKAGES} && tar -xf {DISK} -C {PACKAGES}"))?;
    let programs = ["vhost-user-tmem", "tmemctl", "tmem-vmm"];
    let files = programs.map(|name| format!("{PACKAGES}/{name}_*.deb"));
    let [daemon, tmemctl, vmm] = &files;
    guest.sh_within(&format!("{INSTALL} {daemon} {tmemctl} {vmm}"), STARTED)?;
    is_active(&guest)?;
    // Documentation is left out when they are installed here.
    for example in ["virtio-tmem.rules.yml", "virtio-tmem.json"] {
        let path = format!("./usr/share/doc/vhost-user-tmem/examples/{example}");
        guest.sh(&format!("dpkg-deb --contents {daemon} | grep -F {path}"))?;
    }
    for program in programs {
        guest.sh(&format!("{program} --version"))?;
    }
    // It has no rights of its own.
    let user = guest.sh("stat -c %U /proc/$(systemctl show -P MainPID vhost-user-tmem)")?;
    assert_eq!(user.trim(), "tmem");
    is_confined(&guest)?;

    guest.sh("tmemctl vm add web1 --quota 8G --weight 200 --domain team-a")?;
    guest.sh("test -S /run/tmem/web1.sock")?;
    guest.sh("tmemctl vm set web1 --quota 16G --weight 300 --codec zstd")?;
    for command in [
        "freeze web1",
        "thaw web1",
        "flush web1 --bytes 2G",
        "list --long",
    ] {
        guest.sh(&format!("tmemctl vm {command}"))?;
    }
    guest.sh("tmemctl freeable")?;

    metrics_are_on_a_port(&guest)?;

    // It comes back with what was set up, however it ended.
    for end in [
        "systemctl restart vhost-user-tmem".to_string(),
        "systemctl kill -s KILL vhost-user-tmem".to_string(),
        format!("{INSTALL} {daemon}"),
    ] {
        let before = guest.sh("systemctl show -P MainPID vhost-user-tmem")?;
        guest.sh_within(&end, STARTED)?;
        until("another daemon", STARTED, || {
            let now = guest.sh("systemctl show -P MainPID vhost-user-tmem")?;
            Ok((now.trim() != "0" && now != before).then_some(()))
        })?;
        is_active(&guest)?;
        let machine = machine(&guest)?;
        assert_eq!(machine["name"], "web1", "after {end}: {machine}");
        assert_eq!(machine["quota"], 16_u64 << 30, "after {end}");
    }

    mistake_loses_nothing(&guest)?;

    guest.sh("DEBIAN_FRONTEND=noninteractive dpkg --purge vhost-user-tmem tmemctl tmem-vmm")?;
    for left in [
        "/usr/bin/vhost-user-tmem",
        "/etc/virtio-tmem",
        "/etc/default/vhost-user-tmem",
        "/var/lib/virtio-tmem",
        "/run/tmem/web1.sock",
        "/usr/lib/systemd/system/vhost-user-tmem.service",
    ] {
        guest
            .run(&format!("test ! -e {left}"))
            .with_context(|| format!("{left} is left"))?;
    }
    guest.power_off()
}
