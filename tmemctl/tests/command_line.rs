// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program's manners: what it refuses, how, and with which code.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tmemctl"))
        .args(args)
        .output()
        .unwrap()
}

/// It must say one sentence with each of `words`, and end with `code`.
fn refuses(args: &[&str], code: i32, words: &[&str]) {
    let output = run(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{args:?}: {said}");
    assert!(said.starts_with("tmemctl: "), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

#[test]
fn a_broken_command_line_is_refused_in_one_sentence() {
    refuses(&[], 2, &["subcommand", "attach, detach, status", "--help"]);
    refuses(&["frob"], 2, &["frob", "--help"]);
    refuses(&["attach"], 2, &["DEVICE"]);
    refuses(&["detach"], 2, &["DEVICE"]);
    refuses(&["attach", "--all", "/dev/vda1"], 2, &["--all"]);
    refuses(&["attach", "--kind", "zswap", "/dev/vda1"], 2, &["zswap"]);
    refuses(&["status", "--watch", "often"], 2, &["often", "seconds"]);
}

#[test]
fn what_is_no_block_device_is_refused_with_or_without_the_module() {
    for command in ["attach", "detach"] {
        refuses(
            &[command, "/dev/null"],
            1,
            &["/dev/null is not a block device"],
        );
        refuses(&[command, "/dev/no such"], 1, &["there is no /dev/no such"]);
    }
}

#[test]
fn help_and_version_are_given() {
    for (args, words) in [
        (&["--help"][..], "modprobe virtio_tmem"),
        (&["attach", "--help"], "--all"),
        (&["detach", "--help"], "Ctrl-C"),
        (&["status", "--help"], "--json"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = run(args);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{args:?}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}
