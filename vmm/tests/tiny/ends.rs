// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ways in which a guest ends, each with its exit code.

use std::fs;

use tempfile::TempDir;
use tmem_vmm::machine::{i8042, layout};

use crate::asm::{Reg, Width};
use crate::guest::Guest;
use crate::guest::file::COMMAND_LINE;
use crate::refusals::{FAILED, is_refusal};
use crate::vmm::{Vmm, can_run, program, run};

#[test]
fn what_the_guest_writes_is_shown_until_it_switches_off() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    guest.print("Hello, ");
    for byte in *b"world\n" {
        guest.out(layout::SERIAL[0].0, byte);
    }
    guest.power_off();
    let ended = run(&guest, &[]);
    ended.silently(0);
    assert_eq!(ended.out, "Hello, world\n");
}

#[test]
fn a_reset_ends_the_machine_with_code_3() {
    if !can_run() {
        return;
    }
    let mut by_acpi = Guest::new();
    by_acpi.reset();
    run(&by_acpi, &[]).silently(3);

    let mut by_keyboard = Guest::new();
    by_keyboard.input(Width::One, i8042::PORT);
    by_keyboard.code.and(Reg::Rax, 0b11);
    by_keyboard.expect("the controller's state", 0);
    by_keyboard.out(i8042::PORT, 0xfe);
    by_keyboard.halt();
    run(&by_keyboard, &[]).silently(3);
}

#[test]
fn a_triple_fault_is_a_crash() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    guest.crash();
    let ended = run(&guest, &[]);
    assert_eq!(ended.code(), Some(4), "{ended:?}");
    assert!(
        ended
            .said
            .starts_with("tmem-vmm: the guest crashed: triple fault at instruction ")
    );
    assert_eq!(ended.said.lines().count(), 1, "{ended:?}");
}

#[test]
fn a_guest_that_kvm_cannot_run_is_a_crash_with_a_reason() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    guest.code.set(Reg::Rbx, layout::VIRTIO);
    guest.code.load_float(Reg::Rbx);
    guest.print("it was run\n");
    guest.power_off();
    let ended = run(&guest, &[]);
    assert_eq!(ended.code(), Some(4), "{ended:?}");
    assert_eq!(ended.said.lines().count(), 1, "{ended:?}");
    assert!(
        ended
            .said
            .contains("KVM cannot run this guest: an instruction that it has to emulate")
    );
}

#[test]
fn what_nobody_answers_reads_as_ones_and_takes_anything() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    for (width, ones) in [
        (Width::One, 0xff),
        (Width::Two, 0xffff),
        (Width::Four, 0xffff_ffff),
        (Width::Eight, u64::MAX),
    ] {
        // Behind the last device.
        let nobody = layout::VIRTIO + 0x10_0000;
        guest.write(width, nobody, 0);
        guest.read(width, nobody);
        guest.expect("nobody's register", ones);
        if width != Width::Eight {
            guest.out(0x500, 0);
            guest.input(width, 0x500);
            guest.expect("nobody's port", ones);
        }
    }
    guest.print("ones\n");
    guest.power_off();
    let ended = run(&guest, &[]);
    ended.silently(0);
    assert_eq!(ended.out, "ones\n");
}

#[test]
fn a_bzimage_is_a_kernel_like_any_other() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    guest.print("Hello\n");
    guest.power_off();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vmlinuz");
    fs::write(&path, guest.bzimage(4 << 20)).unwrap();
    let run = |args: &[&str]| {
        let mut program = program(&["--kernel", path.to_str().unwrap()]);
        program.args(args);
        Vmm::spawn(program, TempDir::new().unwrap()).end()
    };
    let longest = "x".repeat(COMMAND_LINE);
    let ended = run(&["--memory", "4M", "--cmdline", &longest]);
    ended.silently(0);
    assert_eq!(ended.out, "Hello\n");

    let ended = run(&["--memory", "3M"]);
    is_refusal(&ended, &ended.said, FAILED, &["needs 4 MiB", "--memory"]);
    let ended = run(&["--cmdline", &format!("{longest}x")]);
    is_refusal(&ended, &ended.said, FAILED, &["256 bytes", "at most 255"]);
}
