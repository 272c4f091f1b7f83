// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl`, the program.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Where it is. Cargo tells a test of the programs of its own package only.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // Tests are one folder further down than programs.
        let test = std::env::current_exe().unwrap();
        let dir = test.parent().unwrap().parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--package",
            "tmemctl",
            "--bin",
            "tmemctl",
        ]);
        build.arg("--target-dir").arg(dir.parent().unwrap());
        let profile = dir.file_name().unwrap().to_str().unwrap();
        build.args([
            "--profile",
            if profile == "debug" { "dev" } else { profile },
        ]);
        assert!(build.status().unwrap().success(), "tmemctl is not built");
        dir.join("tmemctl")
    })
}

/// Runs it with the words of `line`, for the daemon at `control`.
pub(crate) fn run(control: &Path, line: &str) -> Output {
    let mut command = Command::new(program());
    command.args(line.split_whitespace());
    command.arg("--control").arg(control);
    command.output().unwrap()
}

/// Runs it, and gives what it prints; it must succeed.
pub(crate) fn says(control: &Path, line: &str) -> String {
    let output = run(control, line);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{line}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs it, and gives what it complains of, on one line; it must fail.
pub(crate) fn refuses(control: &Path, line: &str) -> String {
    let output = run(control, line);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}: {complaint}");
    assert_eq!(complaint.trim_end().lines().count(), 1, "{complaint}");
    assert!(complaint.starts_with("tmemctl: "), "{complaint}");
    complaint
}
