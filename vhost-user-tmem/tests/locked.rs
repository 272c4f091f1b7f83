// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `--lock-memory`, with and without a limit that is large enough.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Output};

use common::Daemon;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

/// Bytes that a process has locked, or may have.
fn locked(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

#[test]
fn page_memory_is_locked() {
    // Root may lock what it wants.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let plain = Daemon::start(&["a"], &[]);
    assert_eq!(locked(plain.pid()), 0);
    let daemon = Daemon::start(&["a"], &["--lock-memory"]);
    assert!(locked(daemon.pid()) >= 256 << 20);
}

/// Runs the daemon as a process that may lock this many KiB.
fn run_with_limit(kib: u32) -> Output {
    let run = move || {
        if rustix::process::geteuid().is_root() {
            // Root would not be held to the limit. A thread has a set of its own.
            remove_capability_from_bounding_set(CapabilitySet::IPC_LOCK).unwrap();
        }
        Command::new("sh")
            .args(["-c", &format!("ulimit -l {kib} && exec \"$@\""), "sh"])
            .arg(env!("CARGO_BIN_EXE_vhost-user-tmem"))
            .args(["--memory-limit", "64M", "--lock-memory"])
            .output()
            .unwrap()
    };
    std::thread::spawn(run).join().unwrap()
}

#[test]
fn limit_that_is_too_low_is_an_error_with_a_way_out() {
    let output = run_with_limit(64);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    for word in ["64 KiB", "LimitMEMLOCK=", "ulimit -l", "--memory-limit"] {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}
