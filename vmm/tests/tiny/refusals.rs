// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What cannot be is refused in one sentence.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::guest::Guest;
use crate::vmm::{Ended, Vmm, can_run, kernel, program};

/// Exit codes: what was asked for cannot be; the command line is wrong.
pub(crate) const FAILED: i32 = 1;
const MISTAKE: i32 = 2;

/// Runs the program with `args`: it must end with `code` and one sentence with
/// each of `words`.
fn refuses(args: &[&str], code: i32, words: &[&str]) {
    let dir = TempDir::new().unwrap();
    let ended = Vmm::spawn(program(args), dir).end();
    assert_eq!(ended.out, "", "{args:?}");
    is_refusal(&ended, &ended.said, code, words);
}

pub(crate) fn is_refusal(ended: &Ended, said: &str, code: i32, words: &[&str]) {
    assert_eq!(ended.code(), Some(code), "{ended:?}");
    assert_eq!(said.lines().count(), 1, "{ended:?}");
    assert!(said.starts_with("tmem-vmm: "), "{ended:?}");
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

/// A directory with a guest that switches off, and other files.
pub(crate) struct Files {
    dir: TempDir,
    pub(crate) guest: String,
}

impl Files {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut guest = Guest::new();
        guest.power_off();
        let guest = kernel(dir.path(), &guest).to_str().unwrap().to_owned();
        Self { dir, guest }
    }

    /// A path that may or may not exist.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path as text.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A file with `content`.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.path(name), content).unwrap();
        self.at(name)
    }

    /// A good guest with `args` is refused.
    pub(crate) fn refuse(&self, args: &[&str], code: i32, words: &[&str]) {
        let all = [&["--kernel", &self.guest], args].concat();
        refuses(&all, code, words);
    }
}

#[test]
fn a_wrong_command_line_is_code_2() {
    refuses(&[], MISTAKE, &["--kernel", "--help"]);
    let wrong = |args: &[&str], words: &[&str]| {
        refuses(&[&["--kernel", "k"], args].concat(), MISTAKE, words);
    };
    wrong(&["--bogus"], &["--bogus", "--help"]);
    wrong(&["--memory"], &["--memory"]);
    wrong(&["--memory", "1.5G"], &["'1.5G'", "K, M, G or T"]);
    wrong(&["--cpus", "0"], &["0", "1..=254"]);
    wrong(&["--cpus", "255"], &["255", "1..=254"]);
    wrong(&["--seccomp", "maybe"], &["maybe", "on, log, off"]);
    wrong(&["--log-level", "loud"], &["loud"]);
    wrong(&["--tmem", "4G"], &["'4G' is not a setting"]);
    wrong(&["--tmem", "quota=0"], &["holds no page"]);
    wrong(&["--tmem", "quota=1G,serve=fast"], &["serve=fast"]);
    wrong(&["--tmem", "quota=1G,size=1G"], &["no setting 'size'"]);
    wrong(
        &["--tmem", "quota=1G,memory-limit=1M"],
        &["below the quota"],
    );
    wrong(&["--tmem", "socket="], &["needs the path"]);
    wrong(&["--tmem-swap", "socket="], &["needs the path"]);
    wrong(&["--tmem-swap", "queues=2"], &["a size", "socket=PATH"]);
    wrong(
        &["--tmem-swap", "socket=/s,quota=1G"],
        &["only queues=N", "the daemon has the rest"],
    );
    wrong(
        &["--tmem", "socket=/s", "--tmem-swap", "socket=/s"],
        &["--tmem", "--tmem-swap"],
    );
    wrong(&["--serial", "stdio"], &["'stdio'", "socket=PATH"]);
    wrong(&["--serial", "file="], &["write file=PATH"]);
    wrong(&["--disk", ""], &["is missing"]);
    wrong(&["--net", "tap0"], &["'tap0' is not a setting"]);
    wrong(&["--net", "tap=t,mac=x"], &["mac=x"]);
    wrong(&["--disk", "path=x,size=1G"], &["'size=1G' is no option"]);
    wrong(&["--memory", "0"], &["too little", "--memory"]);
    wrong(&["--memory", "5000001"], &["whole number of pages"]);
    wrong(&["--memory", "5M", "--hugepages"], &["pages of 2 MiB"]);
}

#[test]
fn more_devices_than_there_is_room_for_are_code_2() {
    let refuse = |args: &[&str], words: &[&str]| {
        refuses(&[&["--kernel", "k"], args].concat(), MISTAKE, words);
    };
    refuse(&["--disk", "d"].repeat(18), &["18 devices", "are 19"]);
    let with_tmem = [&["--net", "tap=t"].repeat(17), &["--tmem", "quota=1G"][..]];
    refuse(&with_tmem.concat(), &["18 devices", "are 19"]);
    refuse(&["--serial", "null"].repeat(3), &["3 serial ports"]);
    let two = ["--serial", "tty"].repeat(2);
    refuse(&two, &["only one serial port", "terminal"]);
}

#[test]
fn files_that_are_missing_or_of_another_kind_are_named() {
    if !can_run() {
        return;
    }
    let files = Files::new();
    let (missing, dir) = (files.at("missing"), files.at("."));
    let empty = files.file("empty", b"");
    let text = files.file("text", b"#!/bin/sh\nexit\n");
    for (kernel, words) in [
        (&missing, ["cannot open the kernel", "No such file"]),
        (&dir, ["the kernel", "is not a file"]),
        (&empty, ["is no kernel", "ELF"]),
        (&text, ["is no kernel", "ELF"]),
    ] {
        refuses(&["--kernel", kernel], FAILED, &[kernel, words[0], words[1]]);
    }
    for (option, path, words) in [
        ("--initrd", &missing, "cannot open the initrd"),
        ("--initrd", &empty, "is empty"),
        ("--initrd", &dir, "is not a file"),
        ("--disk", &missing, "there is no disk"),
        ("--disk", &dir, "is a directory"),
        ("--disk", &empty, "is empty"),
        ("--disk", &text, "no multiple of 512"),
    ] {
        files.refuse(&[option, path], FAILED, &[path, words]);
    }
    let tap = ["--net", "tap=no-such-tap"];
    files.refuse(&tap, FAILED, &["no-such-tap"]);
    let socket = files.at("socket");
    for (serial, words) in [
        (format!("socket={socket}"), "something must listen"),
        (format!("path={text}"), "is no character device"),
        (format!("path={missing}"), "cannot open"),
        (format!("file={missing}/log"), "cannot open"),
    ] {
        files.refuse(&["--serial", &serial], FAILED, &[words]);
    }
}

#[test]
fn what_is_no_kernel_or_no_raw_disk_is_called_what_it_is() {
    if !can_run() {
        return;
    }
    let files = Files::new();
    let packed = files.file("vmlinux.gz", b"\x1f\x8b\x08\0");
    let mut arm = fs::read(&files.guest).unwrap();
    arm[18] = 183;
    let arm = files.file("arm", &arm);
    let program = env!("CARGO_BIN_EXE_tmem-vmm").to_owned();
    for (kernel, words) in [
        (&packed, ["packed with gzip", "gzip -dk"]),
        (&arm, ["no kernel for this machine", "arm64"]),
        (&program, ["no kernel for this machine", "program"]),
    ] {
        refuses(&["--kernel", kernel], FAILED, &[kernel, words[0], words[1]]);
    }
    let mut image = vec![0; 4096];
    image[..8].copy_from_slice(b"vhdxfile");
    let image = files.file("disk", &image);
    let words = [&*image, "a VHDX image", "qemu-img", "format=raw"];
    files.refuse(&["--disk", &image], FAILED, &words);
    let raw = format!("path={image},format=raw");
    let all = ["--kernel", &files.guest, "--disk", &raw];
    Vmm::spawn(crate::vmm::program(&all), TempDir::new().unwrap())
        .end()
        .silently(0);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    if !can_run() {
        return;
    }
    let files = Files::new();
    let words = ["more than the host's", "--memory"];
    files.refuse(&["--memory", "1000T"], FAILED, &words);
    for tmem in ["quota=1000T", "quota=1G,memory-limit=1000T"] {
        let words = ["1000 TiB", "more than the host's", "--tmem"];
        files.refuse(&["--tmem", tmem], FAILED, &words);
    }
    let large = files.file("large", &vec![1; 16 << 20]);
    let args = ["--memory", "8M", "--initrd", &large];
    files.refuse(&args, FAILED, &["does not fit", "--memory"]);
    let free = fs::read_to_string("/proc/meminfo").unwrap();
    if free.contains("HugePages_Free:        0") {
        let args = ["--memory", "8M", "--hugepages"];
        files.refuse(&args, FAILED, &["huge pages", "--hugepages"]);
    }
    let line = "x".repeat(70_000);
    files.refuse(&["--cmdline", &line], FAILED, &["70000 bytes", "65535"]);
}

#[test]
fn what_another_process_uses_is_refused_and_left_to_it() {
    if !can_run() {
        return;
    }
    let files = Files::new();
    let disk = files.file("disk", &[0; 512]);
    let mut guest = Guest::new();
    guest.print("idle\n");
    guest.halt();
    let mut vmm = Vmm::start(&guest, &["--disk", &disk]);
    vmm.see("idle\n");
    files.refuse(&["--disk", &disk], FAILED, &[&disk, "in use"]);
    let api = vmm.api();
    let api = api.to_str().unwrap();
    files.refuse(&["--api-socket", api], FAILED, &[api, "listens"]);
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
    assert!(!fs::exists(api).unwrap());
}
