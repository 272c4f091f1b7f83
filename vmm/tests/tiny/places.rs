// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where the program is started: without KVM, without permission, by a service
//! manager.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::guest::Guest;
use crate::vmm::{PATIENCE, Vmm, can_run, kernel, machine, program, skip};

/// Runs the program, which has no KVM; gives what it says in one sentence.
fn refusal(program: &mut Command) -> String {
    let output = program.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("tmem-vmm: "), "{said}");
    said
}

#[test]
fn a_machine_without_kvm_is_told_what_to_do() {
    // A place in which nothing is in /dev.
    let script = "mount -t tmpfs none /dev && exec \"$0\" --kernel k";
    let unshare = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]);
        command.args(args);
        command
    };
    let possible = unshare(&["mount", "-t", "tmpfs", "none", "/dev"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        skip("a place without /dev cannot be made");
        return;
    }
    let tmem_vmm = env!("CARGO_BIN_EXE_tmem-vmm");
    let said = refusal(&mut unshare(&["sh", "-c", script, tmem_vmm]));
    assert!(
        said.contains("there is no /dev/kvm: load the module"),
        "{said}"
    );
}

#[test]
fn a_user_without_permission_is_told_what_to_do() {
    const NOBODY: u32 = 65534;
    let opened = File::options().read(true).write(true).open("/dev/kvm");
    let mut program = program(&["--kernel", "k"]);
    match opened.map_err(|error| error.kind()) {
        Err(ErrorKind::PermissionDenied) => {}
        Ok(_) if geteuid().is_root() => {
            program.uid(NOBODY).gid(NOBODY);
            let mut look = Command::new("test");
            look.args(["-w", "/dev/kvm"]).uid(NOBODY).gid(NOBODY);
            if look.status().unwrap().success() {
                skip("everybody may use /dev/kvm");
                return;
            }
        }
        _ => {
            skip("there is no /dev/kvm, or this user may use it and is not root");
            return;
        }
    }
    if program.stdin(Stdio::null()).output().is_err() {
        skip("other users may not start the program");
        return;
    }
    let said = refusal(&mut program);
    assert!(said.contains("no permission to use /dev/kvm"), "{said}");
    assert!(said.contains("usermod"), "{said}");
}

#[test]
fn the_service_manager_hears_when_the_machine_is_there() {
    if !can_run() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let notify = dir.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut guest = Guest::new();
    guest.halt();
    let mut program = machine(dir.path(), &guest, &[]);
    program.env("NOTIFY_SOCKET", &notify);
    let vmm = Vmm::spawn(program, dir);
    let mut said = [0; 64];
    let len = manager.recv(&mut said).unwrap();
    assert_eq!(&said[..len], b"READY=1");
    assert!(vmm.api().exists());
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
}

#[test]
fn guests_run_with_every_level_of_confinement() {
    if !can_run() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let mut guest = Guest::new();
    guest.power_off();
    let guest = kernel(dir.path(), &guest);
    for level in ["on", "log", "off"] {
        let status = program(&["--seccomp", level, "--kernel"])
            .arg(&guest)
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0), "{level}");
    }
}
