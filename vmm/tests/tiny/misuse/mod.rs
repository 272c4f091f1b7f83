// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that uses the registers of all devices in any way, and then as one
//! should.

mod scratch;
mod script;

use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use tmem_vmm::machine::layout;

use crate::api::ask;
use crate::daemon::Host;
use crate::devices::{OLD, use_rng};
use crate::guest::Guest;
use crate::network::{can_make_taps, in_a_network};
use crate::tmem::{Store, use_store};
use crate::virtio::Device;
use crate::vmm::{Vmm, can_run, machine};
use script::misuse;

/// Registers of a serial port.
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;

/// Misuses a disk, a network card if there is a `tap`, random numbers and what
/// `tmem` gives, then uses the last two.
fn misuse_all(seed: u64, tap: bool, tmem: &str, store: Store) {
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk.raw");
    fs::write(&disk, [OLD; 4096]).unwrap();
    let mut args = vec!["--disk", disk.to_str().unwrap(), "--tmem", tmem];
    args.extend(["--serial", "tty", "--serial", "null"]);
    let mut devices = 3;
    if tap {
        args.extend(["--net", "tap=tap0"]);
        devices += 1;
    }
    let mut guest = Guest::new();
    misuse(&mut guest, seed, devices);
    // The port's control registers are as they were at first.
    for register in [LINE_CONTROL, MODEM_CONTROL] {
        guest.out(layout::SERIAL[0].0 + register, 0);
    }
    // What was written to the disk may be anything now.
    use_rng(&mut guest, Device(devices - 2));
    use_store(&mut guest, Device(devices - 1), store);
    guest.print("\nused\n");
    guest.wait_for_button();
    guest.power_off();
    let program = machine(dir.path(), &guest, &args);
    let program = if tap { in_a_network(&program) } else { program };
    let mut vmm = Vmm::spawn(program, dir);
    vmm.see("\nused\n");
    let stats = ask(&vmm.api(), "GET", "/v1/stats", "");
    let mut mistakes = vec!["/disk/vda/malformed", "/rng/rng0/failed"];
    if tap {
        mistakes.push("/net/tap0/send_malformed");
    }
    if store == Store::InProcess {
        mistakes.push("/vms/guest/device/request_status/invalid");
    }
    for mistake in mistakes {
        let count = stats.pointer(mistake).and_then(Value::as_u64);
        assert!(count > Some(0), "no {mistake} in {stats}");
    }
    ask(&vmm.api(), "PUT", "/v1/vm/shutdown", "");
    let ended = vmm.end();
    assert_eq!(ended.code(), Some(0), "{seed}: {ended:?}");
    assert!(!ended.said.contains("panic"), "{seed}: {ended:?}");
}

#[test]
fn registers_may_be_used_in_any_way() {
    if !can_run() {
        return;
    }
    for seed in 1..3 {
        misuse_all(seed, false, "quota=16M,serve=vcpu", Store::InProcess);
        misuse_all(seed + 10, false, "quota=16M,serve=thread", Store::InProcess);
    }
}

#[test]
fn registers_may_be_used_in_any_way_with_a_network_card() {
    if !can_run() || !can_make_taps() {
        return;
    }
    for seed in 20..22 {
        misuse_all(seed, true, "quota=16M", Store::InProcess);
    }
}

#[test]
fn registers_may_be_used_in_any_way_with_a_daemon() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.serve(&host.pools(2));
    let tmem = format!("socket={}", host.socket().display());
    for seed in 30..32 {
        misuse_all(seed, false, &tmem, Store::Daemon);
    }
}
