// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The help says everything, and its examples are command lines, as are the
//! README's.

use clap::ArgAction;
use tmem_vmm::cli;

use crate::vmm::program;

const README: &str = include_str!("../../../README.md");

fn help() -> String {
    let output = program(&["--help"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stderr, b"");
    String::from_utf8(output.stdout).unwrap()
}

/// The command lines in a text; one goes on behind a backslash, or in lines
/// that are indented further than its first.
fn command_lines(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut indented = None;
    for line in text.replace("\\\n", " ").lines() {
        let depth = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("tmem-vmm --") {
            found.push(line.trim().to_owned());
            indented = Some(depth);
        } else if indented.is_some_and(|above| depth > above) && !line.trim().is_empty() {
            let last = found.last_mut().unwrap();
            last.push(' ');
            last.push_str(line.trim());
        } else {
            indented = None;
        }
    }
    found
}

#[test]
fn every_option_has_its_place_in_the_help() {
    let help = help();
    for option in cli::command().get_arguments() {
        if matches!(option.get_action(), ArgAction::Help | ArgAction::Version) {
            continue;
        }
        let name = option.get_long().unwrap();
        assert!(help.contains(&format!("--{name}")), "no --{name}");
        assert!(option.get_help().is_some(), "--{name} has no help");
    }
}

#[test]
fn every_exit_code_is_explained_and_so_are_the_keys() {
    let help: Vec<_> = help().split_whitespace().map(str::to_owned).collect();
    let help = help.join(" ");
    for words in [
        "Exit codes: 0 ",
        "; 1 ",
        "; 2 ",
        "; 3 the guest reset",
        "; 4 the guest crashed",
        "Ctrl-A x",
        "quota=SIZE",
        "serve=vcpu|thread",
        "socket=PATH",
        "readonly=on",
        "mac=MAC",
        "/v1/vm/pause",
        "/v1/vm/resume",
        "/v1/vm/shutdown",
        "/v1/openapi.json",
        "/metrics",
        "root=/dev/vda1",
    ] {
        assert!(help.contains(words), "'{words}' is not in: {help}");
    }
}

#[test]
fn the_examples_are_command_lines() {
    let examples = command_lines(&help());
    assert_eq!(examples.len(), 3, "{examples:?}");
    for line in examples.iter().chain(&command_lines(README)) {
        let parsed = cli::command().try_get_matches_from(line.split_whitespace());
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}

#[test]
fn the_version_is_told() {
    let output = program(&["--version"]).output().unwrap();
    let expected = format!("tmem-vmm {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
