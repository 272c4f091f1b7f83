// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Debian packages on a host with systemd: installed, used, upgraded under load, purged.

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
use tmem_e2e::PackageAssets;
use tmem_e2e::until;

/// For the daemon to be there, on emulated CPUs.
const STARTED: Duration = Duration::from_secs(120);

/// The disk with the packages.
const DISK: &str = "/dev/disk/by-id/virtio-disk0";

/// Where the packages are in the guest.
const PACKAGES: &str = "/root/packages";

/// What people read.
const README: &str = include_str!("../../README.md");
const OPERATE: &str = include_str!("../../docs/operate.md");

/// Where the load is told to end.
const OVER: &str = "/run/load-is-over";

/// Where the daemon is asked.
const CONTROL: &str = "/run/virtio-tmem/control.sock";

/// All packages and the driver in an archive, which the guest has as a disk.
fn archive(assets: &PackageAssets, dir: &Path) -> Result<PathBuf> {
    let archive = dir.join("packages.tar");
    let driver = &assets.driver;
    let status = Command::new("tar")
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(&assets.packages)
        .arg(".")
        .arg("-C")
        .arg(driver.parent().context("the driver is nowhere")?)
        .arg(driver.file_name().context("the driver has no name")?)
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

/// File descriptors that systemd keeps for the next daemon.
fn kept(guest: &Guest) -> Result<u32> {
    let kept = guest.sh("systemctl show -P NFileDescriptorStore vhost-user-tmem")?;
    kept.trim().parse().context("no number")
}

/// A mistake in a file keeps the daemon from starting, as often as it is tried. What systemd keeps
/// for it stays until the mistake is mended.
fn mistake_loses_nothing(guest: &Guest) -> Result<()> {
    let before = kept(guest)?;
    ensure!(before > 0, "nothing is kept");
    guest.sh("echo mistake >/etc/virtio-tmem/db1.toml")?;
    // It does not come up.
    guest.sh("systemctl restart --no-block vhost-user-tmem")?;
    // More often than a unit is tried by default.
    until("starts in vain", STARTED, || {
        let starts = guest.sh("systemctl show -P NRestarts vhost-user-tmem")?;
        Ok((starts.trim().parse::<u32>()? > 10).then_some(()))
    })?;
    assert_eq!(kept(guest)?, before);
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

/// The commands below this heading of a text, without what they say to the reader.
fn commands<'a>(text: &'a str, heading: &str) -> Result<Vec<&'a str>> {
    let block = text
        .split_once(&format!("\n## {heading}\n"))
        .and_then(|(_, below)| below.split("```").nth(1))
        .with_context(|| format!("there are no commands for {heading:?}"))?;
    let lines = block.lines().filter_map(|line| line.split(" #").next());
    Ok(lines.map(str::trim).filter(|it| !it.is_empty()).collect())
}

/// Does what is printed there, as it is printed, where the packages are.
fn follow(guest: &Guest, text: &str, heading: &str) -> Result<()> {
    for command in commands(text, heading)? {
        // A person sees it on a terminal, and ends it.
        let done = if command == "tmemctl top" {
            format!("printf q | script --quiet --return --command '{command}' /dev/null")
        } else {
            command.to_string()
        };
        guest.sh_within(&format!("cd {PACKAGES}; {done}"), STARTED)?;
    }
    Ok(())
}

/// The daemon's process.
fn process(guest: &Guest) -> Result<String> {
    let process = guest.sh("systemctl show -P MainPID vhost-user-tmem")?;
    Ok(process.trim().to_string())
}

/// Waits until this daemon has served the load.
fn serves(guest: &Guest) -> Result<()> {
    let requests = || -> Result<u64> {
        let answer = guest.http(Path::new(CONTROL), "GET", "/v1/stats", "")?;
        let stats: Value = serde_json::from_str(&answer.body)?;
        let of = |way| stats.pointer(way).and_then(Value::as_u64);
        of("/vms/web1/device/requests/put").context("puts are not counted")
    };
    until("the load to be served", STARTED, || {
        // The daemon may not listen yet.
        Ok(requests().is_ok_and(|puts| puts > 0).then_some(()))
    })
    .with_context(|| {
        let log = guest.sh("journalctl --no-pager -u load -u vhost-user-tmem | tail -n 30");
        log.unwrap_or_default()
    })
}

/// The package `file` as a later version of it, made in the guest.
fn next_version(guest: &Guest, file: &str) -> Result<String> {
    let next = format!("{PACKAGES}/next.deb");
    let script = format!(
        "cd {PACKAGES}; dpkg-deb --raw-extract {file} next; \
         sed -i 's/^Version: .*/&+next/' next/DEBIAN/control; \
         dpkg-deb -Znone --build next {next}"
    );
    guest.sh_within(&script, STARTED)?;
    Ok(next)
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
    let [daemon, _, vmm] = &files;
    follow(&guest, README, "On a host")?;
    is_active(&guest)?;
    assert_eq!(machine(&guest)?["domain"], "team-a");
    guest.sh_within(&format!("apt install {vmm}"), STARTED)?;
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

    guest.sh("tmemctl vm remove web1")?;
    follow(&guest, OPERATE, "VMs")?;
    guest.sh("tmemctl vm add web1 --quota 8G")?;
    guest.sh("tmemctl vm set web1 --quota 16G")?;
    guest.sh("test -S /run/tmem/web1.sock")?;
    for way in ["--long", "--json"] {
        guest.sh(&format!("tmemctl vm list {way}"))?;
    }

    metrics_are_on_a_port(&guest)?;

    // It comes back with what was set up, however it ended, and the load notices nothing.
    guest.sh(&format!(
        "systemd-run --unit load --remain-after-exit --quiet \
         {PACKAGES}/tmem-driver /run/tmem/web1.sock --until {OVER}"
    ))?;
    let upgrade = format!("apt install {}", next_version(&guest, daemon)?);
    for end in [
        "systemctl restart vhost-user-tmem",
        "systemctl kill -s KILL vhost-user-tmem",
        &upgrade,
    ] {
        serves(&guest)?;
        let before = process(&guest)?;
        guest.sh_within(end, STARTED)?;
        until("another daemon", STARTED, || {
            let now = process(&guest)?;
            Ok((now != "0" && now != before).then_some(()))
        })?;
        is_active(&guest)?;
        let machine = machine(&guest)?;
        assert_eq!(machine["name"], "web1", "after {end}: {machine}");
        assert_eq!(machine["quota"], 16_u64 << 30, "after {end}");
    }
    let version = guest.sh("dpkg-query -W -f '${Version}' vhost-user-tmem")?;
    assert!(version.ends_with("+next"), "{version}");
    serves(&guest)?;
    guest.sh(&format!("touch {OVER}"))?;
    until("the load to end", STARTED, || {
        let state = guest.sh("systemctl show -P SubState load")?;
        Ok((state.trim() != "running").then_some(()))
    })?;
    let said = guest.sh("journalctl --no-pager -o cat -u load")?;
    assert!(said.contains("requests answered, none wrong"), "{said}");
    follow(&guest, OPERATE, "Memory")?;

    mistake_loses_nothing(&guest)?;

    // As docs/operate.md warns.
    guest.sh("systemctl stop vhost-user-tmem")?;
    assert_eq!(kept(&guest)?, 0);
    guest.sh("systemctl start vhost-user-tmem")?;
    assert_eq!(machine(&guest)?["name"], "web1");

    guest.sh_within("apt purge --yes vhost-user-tmem tmemctl tmem-vmm", STARTED)?;
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
