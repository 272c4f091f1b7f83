// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Signals, and who decides about them.

use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::api::ask;
use crate::guest::Guest;
use crate::vmm::{Vmm, can_run, machine};

fn idle() -> Guest {
    let mut guest = Guest::new();
    guest.print("up\n");
    guest.halt();
    guest
}

/// `program`, started by a shell that does `before`.
fn after(before: &str, program: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before}; exec \"$@\""), "sh"]);
    shell.arg(program.get_program()).args(program.get_args());
    shell
}

/// Whether the process ignores `signal` (proc_pid_status(5)).
fn ignores(id: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:\t"))
        .unwrap();
    u64::from_str_radix(mask, 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    if !can_run() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let program = machine(dir.path(), &idle(), &[]);
    let mut vmm = Vmm::spawn(after("trap '' HUP INT QUIT", &program), dir);
    vmm.see("up\n");
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT] {
        assert!(ignores(vmm.id(), signal), "{signal:?}");
        vmm.signal(signal);
    }
    assert_eq!(ask(&vmm.api(), "GET", "/v1/vm", "")["state"], "running");
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
}

#[test]
fn a_signal_that_was_blocked_at_the_start_reaches_the_vcpus() {
    if !can_run() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let program = machine(dir.path(), &idle(), &[]);
    let mut blocked = Command::new("env");
    blocked.arg("--block-signal=RTMIN");
    blocked.arg(program.get_program()).args(program.get_args());
    let mut vmm = Vmm::spawn(blocked, dir);
    vmm.see("up\n");
    // Interrupts them.
    assert_eq!(
        ask(&vmm.api(), "PUT", "/v1/vm/pause", "")["state"],
        "paused"
    );
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
}
